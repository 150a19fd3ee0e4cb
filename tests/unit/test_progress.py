"""What `/live` says: dead is what has work and does not move, and not what waits or has nothing to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.subscription_state import SubscriptionState
from builders import raw_click

from stream.adapters.kafka_standing import standings
from stream.agents import BatchAgent
from stream.errors import StateUnavailable
from stream.fakes import MemoryPublisher
from stream.local.ports import choose
from stream.ports import RawMessage
from stream.process import life as process_module
from stream.process.life import until_there, watch
from stream.process.progress import AWAY_S, LONGEST_STEP_S, At, Progress, Standing, Work
from stream.telemetry.metrics import StatusServer, Telemetry

STALLED_S = 60.0
CLICKS = At("clicks", 3)
OTHER = At("clicks", 4)


class Process:
    """A process that is looked at once a second, on a clock of its own; Kafka answers it each second."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.progress = Progress(lambda: self.now_s, STALLED_S)
        self.heard = 0

    def passes(
        self,
        seconds: int,
        work: Callable[[int], dict[At, tuple[int, int | None]]],
        *,
        tries: Callable[[int], int] = lambda _: 0,
        waiting_for: str = "",
        kafka: bool = True,
    ) -> None:
        """Look once a second; `work` gives (done, left) by partition for each second."""
        for second in range(seconds):
            self.now_s += 1
            self.heard += kafka
            partitions = {at: Standing(done, left, self.heard) for at, (done, left) in work(second).items()}
            self.progress.look([Work("events", partitions, tries(second), waiting_for)])


@pytest.fixture
def process() -> Process:
    return Process()


def test_what_has_messages_left_and_moves_nothing_for_long_is_dead_and_says_so(process: Process) -> None:
    process.passes(60, lambda _: {CLICKS: (7, 2), OTHER: (1, 0)})
    assert process.progress.dead() == []
    process.passes(2, lambda _: {CLICKS: (7, 2), OTHER: (1, 0)})
    [said] = process.progress.dead()
    assert said == (
        "events: clicks/3 has 2 messages left and nothing of it moved for 61 s "
        "(telemetry.stalled_s is 60): restart this process"
    )
    assert process.progress.unmoved_s == 61


def test_what_moves_now_and_then_is_alive(process: Process) -> None:
    process.passes(600, lambda second: {CLICKS: (second // 50, 1_000)})
    assert process.progress.dead() == []


def test_one_partition_that_stands_still_is_noticed_beside_one_that_moves(process: Process) -> None:
    process.passes(70, lambda second: {CLICKS: (second, 9), OTHER: (1, 9)})
    [said] = process.progress.dead()
    assert "clicks/4" in said


def test_what_begins_to_move_again_is_alive_again(process: Process) -> None:
    process.passes(70, lambda _: {CLICKS: (7, 2)})
    assert process.progress.dead()
    process.passes(1, lambda _: {CLICKS: (8, 1)})
    assert process.progress.dead() == []


@pytest.mark.parametrize("partitions", [{}, {CLICKS: (7, 0)}])
def test_without_partitions_or_messages_a_process_is_alive_for_ever(
    process: Process, partitions: Any
) -> None:
    process.passes(100_000, lambda _: partitions)
    assert process.progress.dead() == process.progress.waiting() == []
    assert process.progress.unmoved_s == 0


def test_messages_that_come_after_a_long_rest_have_their_whole_time(process: Process) -> None:
    process.passes(1_000, lambda _: {CLICKS: (7, 0)})
    process.passes(59, lambda _: {CLICKS: (7, 3)})
    assert process.progress.dead() == []


def test_a_partition_that_came_from_another_worker_has_its_whole_time(process: Process) -> None:
    process.passes(59, lambda _: {CLICKS: (7, 3)})
    process.passes(1, lambda _: {})
    process.passes(59, lambda _: {CLICKS: (7, 3)})
    assert process.progress.dead() == []


def test_whoever_waits_and_tries_again_is_alive_and_says_for_what_and_how_long(process: Process) -> None:
    process.passes(
        1_000,
        lambda _: {CLICKS: (7, 2)},
        tries=lambda second: second // 40,
        waiting_for="Redis did not answer",
    )
    assert process.progress.dead() == []
    assert process.progress.waiting() == ["events: waiting for 999 s: Redis did not answer"]


def test_whoever_waits_and_tries_nothing_any_more_is_dead(process: Process) -> None:
    process.passes(70, lambda _: {CLICKS: (7, 2)}, tries=lambda _: 3, waiting_for="Redis did not answer")
    assert len(process.progress.dead()) == 1


def test_while_kafka_answers_nobody_nothing_is_dead_and_it_is_said(process: Process) -> None:
    process.passes(5, lambda _: {CLICKS: (7, 2)})
    process.passes(1_000, lambda _: {CLICKS: (7, 2)}, kafka=False)
    assert process.progress.dead() == []
    assert process.progress.waiting() == ["waiting for Kafka, which has not answered for 1000 s"]
    process.passes(int(AWAY_S), lambda _: {CLICKS: (7, 2)})
    assert process.progress.waiting() == process.progress.dead() == []
    process.passes(70, lambda _: {CLICKS: (7, 2)})
    assert len(process.progress.dead()) == 1


def test_the_first_seconds_of_an_outage_of_kafka_are_held_against_nobody(process: Process) -> None:
    process.passes(int(STALLED_S), lambda _: {CLICKS: (7, 2)})
    process.passes(int(AWAY_S) - 1, lambda _: {CLICKS: (7, 2)}, kafka=False)
    assert process.progress.dead() == []


def test_a_partition_of_which_nothing_was_ever_fetched_is_dead_though_kafka_answers(process: Process) -> None:
    process.passes(70, lambda second: {CLICKS: (7, None), OTHER: (second, 0)})
    [said] = process.progress.dead()
    assert "clicks/3 has nothing fetched yet" in said


def test_a_process_that_was_suspended_is_not_blamed_for_that_time(process: Process) -> None:
    process.passes(1, lambda _: {CLICKS: (7, 2)})
    process.now_s += 10_000
    process.passes(2, lambda _: {CLICKS: (7, 2)})
    assert process.progress.dead() == []
    assert process.progress.unmoved_s == LONGEST_STEP_S + 1


def test_messages_left_are_counted_by_partition(process: Process) -> None:
    process.passes(1, lambda _: {CLICKS: (7, 2), OTHER: (7, 5), At("items", 0): (0, None)})
    assert process.progress.left() == {CLICKS: 2, OTHER: 5, At("items", 0): 0}


def test_live_answers_503_with_words_once_nothing_moves_and_200_while_it_waits(process: Process) -> None:
    telemetry = Telemetry()

    async def asked(path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"{url}{path}") as answer:
            return answer.status, await answer.text()

    async def scenario() -> None:
        server = StatusServer(telemetry, lambda: ["events: Redis did not answer"], process.progress)
        await server.start("127.0.0.1", port)
        try:
            assert await asked("/live") == (200, "alive\nevents: Redis did not answer\n")
            process.passes(70, lambda _: {CLICKS: (7, 2)})
            status, said = await asked("/live")
            assert (status, said) == (503, f"{process.progress.dead()[0]}\n")
            _, metrics = await asked("/metrics")
            assert 'streamrec_messages_left{partition="3",topic="clicks"} 2.0' in metrics
            assert "streamrec_unmoved_seconds 69.0" in metrics
            process.passes(1, lambda _: {})
            _, metrics = await asked("/metrics")
            assert "streamrec_messages_left{" not in metrics
        finally:
            await server.stop()

    (port,) = choose(("telemetry",)).values()
    url = f"http://127.0.0.1:{port}"
    asyncio.run(scenario())


async def _consumer(
    position: int | None, highwater: int | None, *, paused: bool = False, leader: int | None = 1
) -> Any:
    """A consumer of clicks/3 as aiokafka keeps it; only its connection is missing."""
    state = SubscriptionState()
    at = TopicPartition(*CLICKS)
    state.assign_from_user({at})
    own = state.subscription.assignment.state_value(at)
    own.highwater, own.timestamp = highwater, 17
    if position is not None:
        own.seek(position)
    if paused:
        own.pause()
    client = SimpleNamespace(cluster=SimpleNamespace(leader_for_partition={at: leader}.get))
    return SimpleNamespace(_subscription=state, _client=client)


@pytest.mark.parametrize(
    ("position", "highwater", "standing"),
    [(5, 9, Standing(5, 4, 17)), (9, 9, Standing(9, 0, 17)), (None, None, Standing(-1, None, 17))],
)
def test_a_consumer_stands_where_its_last_answer_said(
    position: int | None, highwater: int | None, standing: Standing
) -> None:
    async def scenario() -> None:
        assert standings(await _consumer(position, highwater)) == {CLICKS: standing}

    asyncio.run(scenario())


def test_a_consumer_that_is_not_there_or_owns_nothing_stands_nowhere() -> None:
    async def scenario() -> None:
        assert standings(None) == {}
        assert standings(SimpleNamespace(_subscription=SubscriptionState())) == {}

    asyncio.run(scenario())


def test_a_paused_partition_has_nothing_left_where_pausing_is_the_consumer_s_own_will() -> None:
    async def scenario() -> None:
        paused = await _consumer(5, 9, paused=True)
        assert standings(paused)[CLICKS].left == 4
        assert standings(paused, paused_too=False)[CLICKS].left == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("leader", [None, -1])
def test_a_partition_without_a_leader_waits_for_kafka_and_has_nothing_left(leader: int | None) -> None:
    async def scenario() -> None:
        assert standings(await _consumer(5, 9, leader=leader))[CLICKS].left == 0

    asyncio.run(scenario())


class Stream:
    """Three clicks that were read, and then none."""

    enable_acks = True

    async def events(self) -> Any:
        for offset in range(3):
            message = raw_click(offset=offset)
            lies = {"topic": "clicks", "partition": CLICKS.partition, "offset": offset, "timestamp": 1.0}
            yield SimpleNamespace(
                message=SimpleNamespace(**lies, key=b"ann", value=message.value, headers=[])
            )
        await asyncio.Event().wait()

    async def ack(self, _: Any) -> None:
        pass


@pytest.mark.parametrize("fails", [False, True])
def test_an_agent_counts_what_it_has_in_hand_as_left_and_what_it_tries_again(fails: bool) -> None:
    gate = asyncio.Event()

    async def handle(_: Sequence[RawMessage]) -> None:
        if fails and not gate.is_set():
            raise StateUnavailable("Redis did not answer")
        await gate.wait()

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            for _ in iter(condition, True):
                await asyncio.sleep(0)

    async def scenario() -> None:
        agent = BatchAgent("events", handle, MemoryPublisher(), Telemetry(), 8)
        agent._topics = frozenset({"clicks"})
        consuming = asyncio.ensure_future(agent._consume(Stream()))  # type: ignore[arg-type]
        read = {CLICKS: Standing(3, 0, 17), At("items", 0): Standing(0, 5, 17)}
        await until(lambda: agent._work_of(read).partitions[CLICKS].left == 3)
        assert agent._work_of(read).partitions.keys() == {CLICKS}
        before = agent._work_of(read).partitions[CLICKS].done
        if fails:
            await until(lambda: agent._work_of(read).tries > 1)
            assert agent._work_of(read).waiting_for == "Redis did not answer"
        gate.set()
        await until(lambda: agent._work_of(read).partitions[CLICKS].left == 0)
        assert agent._work_of(read).partitions[CLICKS].done == before + 3
        consuming.cancel()

    asyncio.run(scenario())


def test_a_start_waits_for_what_is_away_and_says_it_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process_module, "RETRY_S", 0.0)
    answers: list[Exception | str] = [StateUnavailable("gone"), StateUnavailable("gone"), "there"]
    said: list[str] = []

    async def attempt() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert asyncio.run(until_there("Redis", attempt, said.append)) == "there"
    assert said == ["waiting for Redis: gone"]
    assert caplog.text.count("waiting for Redis: gone") == 1


def test_looking_goes_on_though_one_look_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "LOOK_S", 0.0)
    looked: list[int] = []

    def work() -> Work:
        looked.append(0)
        if len(looked) == 1:
            raise ValueError("boom")
        return Work("events", {})

    async def scenario() -> None:
        watching = asyncio.ensure_future(watch(Progress(lambda: 0.0, STALLED_S), [work]))
        async with asyncio.timeout(60):
            for _ in iter(lambda: len(looked) >= 3, True):
                await asyncio.sleep(0)
        watching.cancel()

    asyncio.run(scenario())
