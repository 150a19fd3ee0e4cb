"""A part goes away while events come in, and comes back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from killed_servers import away

pytestmark = pytest.mark.servers
SHORT_DEADLINES = {
    # Short enough for a list to go without a model soon, and long enough for a machine that runs everything.
    "STREAMREC_TRITON__RERANK_DEADLINE_MS": "3000",
    "STREAMREC_TRITON__ENCODE_DEADLINE_MS": "3000",
    "STREAMREC_TRITON__CROSS_ENCODE_DEADLINE_MS": "3000",
    "STREAMREC_TRITON__CROSS_ENCODER_BEST": "2",
}


@contextmanager
def frozen(stack: Any, name: str) -> Iterator[None]:
    """Stop a server's clock: it takes connections and answers nothing."""
    stack.pause(name)
    try:
        yield
    finally:
        stack.resume(name)


never_asked = itertools.count()


async def whole_again(engine: Any, wait_until: Any, revive: Any, user: str, items: list[str]) -> None:
    """Wait until a click and a search lead to lists with nothing left out."""

    async def undegraded() -> bool:
        revive()
        number = next(never_asked)  # remembered scores would answer for a dead model
        clicked = await engine.list_for(await engine.click(user, items[number % len(items)]))
        searched = await engine.list_for(await engine.search(user, f"red clock {number}"))
        return not clicked["degraded"] and not searched["degraded"]

    await wait_until(undegraded, what="lists are whole again by themselves")


@pytest.mark.parametrize("fault", [away, frozen])
def test_lists_go_on_without_triton_and_say_so(run: Any, wait_until: Any, revive: Any, fault: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker(**SHORT_DEADLINES).ready()
        items = await engine.load_shop()
        await whole_again(engine, wait_until, revive, "eve", items)
        with fault(engine.stack, "triton"):
            for number in range(6):
                event = await engine.click("eve", items[number])
                made = await engine.list_for(event)
                # What was searched for before is read again only where another item moved up.
                assert made["degraded"] in (["reranker"], ["cross_encoder", "reranker"])
                assert "reranker" not in made["model_versions"]
                assert made["items"]
            event = await engine.search("eve", "a query never asked before")
            made = await engine.list_for(event)
            assert made["degraded"] == ["encoder", "reranker"]  # no item has its words: none to read
            assert worker.status()[0] == 200
            # A product that changes meanwhile is in force too, though nothing can encode it.
            await engine.load({"item_id": items[20], "title": "red mug", "available": False})
            await engine.load({"item_id": "late", "title": "violet xylophone"})
            await wait_until(lambda: worker.metric("streamrec_catalogue_items") == 61)
            made = await engine.list_for(await engine.search("eve", "violet xylophone"))
            assert made["items"][0]["item_id"] == "late"
            assert made["degraded"] == ["encoder", "cross_encoder", "reranker"]
            assert "cross_encoder" not in made["model_versions"]
            assert items[20] not in [item["item_id"] for item in made["items"]]
        await whole_again(engine, wait_until, revive, "eve", items)
        await wait_until(
            lambda: worker.metric("streamrec_catalogue_items_without_vector") == 0,
            what="what came meanwhile is encoded",
        )

    run(body)


def test_an_answer_of_triton_that_is_an_error_degrades_one_list_and_no_more(
    run: Any, wait_until: Any
) -> None:
    async def body(engine: Any) -> None:
        await engine.worker(STREAMREC_TRITON__RERANKER="no-such-model").ready()
        items = await engine.load_shop(30)
        made = await engine.list_for(await engine.click("fay", items[0]))
        assert made["degraded"] == ["reranker"]
        assert made["items"]

    run(body)


def test_without_redis_nothing_is_acknowledged_and_nothing_lost(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        items = await engine.load_shop()
        await engine.list_for(await engine.click("gil", items[0]))
        with away(engine.stack, "redis"):
            events = [await engine.click("gil", items[number]) for number in range(1, 9)]
            _, said = await wait_until(
                lambda: (told := worker.status())[0] == 503 and told, what="the worker is not ready"
            )
            assert "Redis" in said
            published = len(engine.lists_of("gil"))
        await engine.list_for(events[-1])
        assert len(engine.lists_of("gil")) > published
        seen = [interaction.item_id for interaction in (await engine.state("gil")).interactions]
        assert seen == items[:9]
        await wait_until(lambda: worker.status()[0] == 200, what="the worker is ready again")

    run(body)


def test_the_broker_goes_away_and_comes_back(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        await engine.worker().ready()
        items = await engine.load_shop()
        await engine.list_for(await engine.click("hal", items[0]))
        with away(engine.stack, "kafka"):
            await asyncio.sleep(3)  # the outage itself, long enough for requests to fail
        last = {}

        async def answered() -> bool:
            last["event"] = await engine.click("hal", items[1])
            try:
                await engine.list_for(last["event"], within_s=10)
            except BaseException as error:  # pytest.fail's own exception
                if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
                    raise
                return False
            return True

        await wait_until(answered, what="lists after the broker came back")

    run(body)


def test_sigterm_drains_and_commits(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        items = await engine.load_shop()
        events = [await engine.click(f"i{number}", items[number % 60]) for number in range(150)]
        assert worker.terminate() == 0
        published = {
            made["trigger"]["event_id"] for user in range(150) for made in engine.lists_of(f"i{user}")
        }
        await engine.worker().ready()
        for event in events:
            await engine.list_for(event)
        # What the first worker committed is not done again by the second.
        again = [event for event in events if len(engine.lists_of(event["user_id"])) > 1]
        assert not again, f"{len(again)} of {len(published)} lists were made twice after a clean stop"

    run(body)


def test_sigterm_ends_a_worker_even_while_redis_is_away(run: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        items = await engine.load_shop(30)
        with away(engine.stack, "redis"):
            await engine.click("jo", items[0])
            assert worker.terminate() in (0, 1)
        event = await engine.click("jo", items[1])
        await engine.worker().ready()
        await engine.list_for(event)
        assert [i.item_id for i in (await engine.state("jo")).interactions] == items[:2]

    run(body)


@pytest.mark.parametrize("model", ["reranker", "cross_encoder"])
def test_a_model_whose_process_died_is_loaded_again_by_itself(
    run: Any, wait_until: Any, revive: Any, kill_model: Any, model: str
) -> None:
    number = 0

    async def body(engine: Any) -> None:
        await engine.worker(**SHORT_DEADLINES).ready()
        items = await engine.load_shop(30)
        await whole_again(engine, wait_until, revive, "kim", items)
        assert kill_model(model)
        await wait_until(lambda: any_degraded(engine, items), what="the dead model is noticed")
        await whole_again(engine, wait_until, revive, "kim", items)

    async def any_degraded(engine: Any, items: list[str]) -> bool:
        nonlocal number
        number += 1
        await engine.list_for(await engine.click("kim", items[1]))
        made = await engine.list_for(await engine.search("kim", f"blue lamp {number}"))
        assert made["items"]
        return model in made["degraded"]

    run(body)
