"""What is remembered of the cross-encoder's scores, what is asked, and how long it is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from stream.errors import ModelUnavailable
from stream.fakes import SharedWordsCrossEncoder
from stream.lists import pair_scores
from stream.lists.pair_scores import PAIRS_A_REQUEST, PAIRS_IN_FLIGHT, BackgroundPairs, Pair, PairScores, pair
from stream.telemetry.metrics import Telemetry

AWAY = ModelUnavailable("cross_encoder", "unreachable", "nobody there")


class Desk:
    """Pair scores on a fake cross-encoder."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        self.model = SharedWordsCrossEncoder()
        self.telemetry = Telemetry()
        self.scores = PairScores(self.model, timeout_s, self.telemetry)
        self.background = BackgroundPairs(self.scores, self.model, self.telemetry)

    async def one(self, *pairs: Pair) -> tuple[list[float], str] | None:
        """Scores for one list."""
        found = (await self.scores.get([pairs]))[0]
        return None if found is None else (found[0].tolist(), found[1])

    def counted(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(f"streamrec_{name}", labels) or 0.0


@pytest.fixture
def run() -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Run a coroutine that must not wait for ever."""

    def running(body: Callable[[], Awaitable[None]]) -> None:
        async def within() -> None:
            async with asyncio.timeout(20):
                await body()

        asyncio.run(within())

    return running


RED = pair("red mug", "a red mug")
BLUE = pair("red mug", "a blue mug")


def test_each_list_gets_the_scores_of_its_own_pairs(run: Any) -> None:
    async def body() -> None:
        desk = Desk()
        found = await desk.scores.get([[RED, BLUE], [], [BLUE]])
        assert [None if one is None else one[0].tolist() for one in found] == [[1.0, 0.5], [], [0.5]]
        assert len(desk.model.calls) == 1  # of all lists together, and no pair twice
        assert desk.model.calls[0] == [RED, BLUE]

    run(body)


def test_no_pairs_no_call(run: Any) -> None:
    async def body() -> None:
        desk = Desk()
        desk.model.failure = AWAY
        assert (await desk.scores.get([[], []]))[1] is not None
        assert await desk.scores.get([]) == []

    run(body)


def test_what_was_scored_costs_nothing_even_while_the_model_is_away(run: Any) -> None:
    async def body() -> None:
        desk = Desk()
        first = await desk.one(RED, BLUE)
        desk.model.failure = AWAY
        assert await desk.one(BLUE, RED) == ([0.5, 1.0], "1")
        assert first == ([1.0, 0.5], "1")
        assert len(desk.model.calls) == 1
        assert desk.counted("cache_lookups_total", cache="pairs", result="hit") == 2
        assert desk.counted("cache_lookups_total", cache="pairs", result="miss") == 2

    run(body)


def test_queries_that_differ_in_case_and_spaces_are_one() -> None:
    assert pair(" Red\tMUG ", "A Red Mug") == pair("red mug", "A Red Mug")
    assert pair("red mug", "A Red Mug") != pair("red mug", "A red mug")


def test_another_text_of_an_item_is_another_pair(run: Any) -> None:
    async def body() -> None:
        desk = Desk()
        await desk.one(pair("red mug", "a red mug"))
        assert await desk.one(pair("red mug", "a blue cup")) == ([0.0], "1")
        assert await desk.one(pair("red", "mug")) == ([0.0], "1")
        assert await desk.one(pair("red mug", "")) == ([0.0], "1")

    run(body)


def test_scores_of_another_version_are_forgotten(run: Any) -> None:
    async def body() -> None:
        desk = Desk()
        await desk.one(RED)
        desk.model.version = "2"
        assert await desk.one(RED) == ([1.0], "1")  # nothing told it yet
        assert await desk.one(RED, BLUE) == ([1.0, 0.5], "2")  # never one of each

    run(body)


def test_scores_are_forgotten_as_soon_as_another_version_serves(run: Any) -> None:
    async def body() -> None:
        desk = Desk()
        await desk.one(RED)
        desk.model.version = "2"
        desk.scores.keep_only("2")
        assert np.isnan(desk.scores.known([RED])[0])
        assert await desk.one(RED) == ([1.0], "2")

    run(body)


def test_a_late_answer_of_the_version_before_is_used_for_its_list_and_replaces_nothing(run: Any) -> None:
    async def body() -> None:
        desk = Desk()
        desk.scores.keep_only("1")
        late = asyncio.ensure_future(desk.one(RED))
        await asyncio.sleep(0)
        desk.scores.keep_only("2")
        assert await late == ([1.0], "1")
        desk.model.version = "2"
        assert await desk.one(RED, BLUE) == ([1.0, 0.5], "2")
        desk.scores.remember([RED], np.array([0.0], np.float32), "1")
        assert await desk.one(RED) == ([1.0], "2")

    run(body)


def test_the_oldest_that_nobody_wanted_lately_are_forgotten_first(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_scores, "PAIRS_KEPT", 3)

    async def body() -> None:
        desk = Desk()
        pairs = [pair("red", f"red {number}") for number in range(4)]
        await desk.one(*pairs[:3])
        await desk.one(pairs[0])
        await desk.one(pairs[3])
        assert np.isnan(desk.scores.known(pairs)).tolist() == [False, True, False, False]

    run(body)


def test_a_list_without_all_its_scores_gets_none_and_others_theirs(run: Any) -> None:
    async def body() -> None:
        desk = Desk()
        await desk.one(RED)
        desk.model.failure = AWAY
        found = await desk.scores.get([[RED], [RED, BLUE]])
        assert found[0] is not None
        assert found[1] is None
        assert desk.counted("model_failures_total", model="cross_encoder", reason="unreachable") == 1

    run(body)


def test_an_answer_that_comes_too_late_is_there_for_the_next_list(run: Any) -> None:
    class Slow(SharedWordsCrossEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.go = asyncio.Event()

        async def score(self, pairs: Any, timeout_s: float) -> Any:
            await self.go.wait()
            return await super().score(pairs, timeout_s)

    async def body() -> None:
        desk = Desk(timeout_s=0.001)
        slow = desk.scores._cross_encoder = Slow()
        assert await desk.one(RED) is None
        assert await desk.one(RED) is None  # not asked again while it is under way
        slow.go.set()
        desk.scores._timeout_s = 5.0
        assert await desk.one(RED) == ([1.0], "1")
        assert len(slow.calls) == 1

    run(body)


def test_many_pairs_go_in_several_requests_at_once_and_only_so_many(run: Any) -> None:
    async def body() -> None:
        desk = Desk(timeout_s=0.001)
        desk.model.hangs = True
        pairs = [pair("red", f"red {number}") for number in range(PAIRS_IN_FLIGHT + 50)]
        assert await desk.one(*pairs) is None
        assert sum(map(len, desk.model.calls)) == PAIRS_IN_FLIGHT
        assert max(map(len, desk.model.calls)) == PAIRS_A_REQUEST
        assert await desk.one(pairs[-1]) is None
        assert sum(map(len, desk.model.calls)) == PAIRS_IN_FLIGHT

    run(body)


def test_pairs_of_items_are_scored_when_there_is_nothing_else_to_do(run: Any) -> None:
    async def body() -> None:
        desk = Desk()
        desk.background.add([RED, BLUE])
        assert np.isnan(desk.scores.known([RED])[0])
        assert desk.counted("pairs_waiting") == 2
        await desk.background.work_off()
        assert desk.scores.known([RED, BLUE]).tolist() == [1.0, 0.5]
        assert desk.counted("pairs_waiting") == 0

    run(body)


def test_pairs_of_items_wait_while_events_are_worked_on(run: Any) -> None:
    async def body() -> None:
        desk = Desk()
        desk.background.add([RED])
        with desk.background.held():
            working = asyncio.ensure_future(desk.background.work_off())
            with desk.background.held():
                await asyncio.wait({working}, timeout=3 * pair_scores.QUIET_S)
            await asyncio.wait({working}, timeout=3 * pair_scores.QUIET_S)
            assert desk.model.calls == []
        await working
        assert desk.model.calls == [[RED]]

    run(body)


def test_where_too_many_pairs_of_items_wait_the_oldest_are_dropped(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_scores, "QUEUE", 2)

    async def body() -> None:
        desk = Desk()
        pairs = [pair("red", f"red {number}") for number in range(3)]
        desk.background.add(pairs)
        desk.background.add([pairs[1]])  # wanted again, so not the oldest any more
        desk.background.add([pairs[0]])
        assert desk.counted("pairs_waiting") == 2
        assert desk.counted("pairs_dropped_total") == 2
        await desk.background.work_off()
        assert [one for call in desk.model.calls for one in call] == [pairs[1], pairs[0]]

    run(body)


def test_a_model_that_is_away_costs_the_background_one_request_at_a_time(run: Any) -> None:
    async def body() -> None:
        desk = Desk()
        desk.model.failure = AWAY
        desk.background.add([pair("red", f"red {number}") for number in range(20)])
        with pytest.raises(ModelUnavailable):
            await desk.background.work_off()
        assert desk.counted("pairs_waiting") == 20 - pair_scores.BACKGROUND_PAIRS

    run(body)
