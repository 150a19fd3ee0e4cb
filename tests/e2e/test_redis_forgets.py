"""Redis comes back older, or empty: what it forgot is folded again from the topics."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recounts import USERS, folded, publish_events, rows_hold_each_increment_once

from stream.adapters.kafka_clients import admin

pytestmark = pytest.mark.servers


class Snapshot:
    """What Redis had written to its log at some moment, to be put in the place of what it has later."""

    def __init__(self, engine: Any, folder: Path) -> None:
        self._engine = engine
        self._data = engine.stack.folder / "redis"
        self._kept = folder / "kept"
        shutil.copytree(self._data, self._kept)

    async def put_back(self) -> None:
        """Kill Redis, and start it again with what it had."""
        self._engine.stack.kill("redis")
        shutil.rmtree(self._data)
        shutil.copytree(self._kept, self._data)
        self._engine.stack.start("redis")
        await self._engine.redis.connection_pool.disconnect()


async def all_is_whole(
    engine: Any, wait_until: Any, events: list[dict[str, Any]], signals: list[Any]
) -> None:
    """Wait until the facts of all events are in the states, and each increment once in the rows."""
    expected = folded(engine, events)

    async def all_folded() -> bool:
        return all([(await engine.state(user)).facts == expected[user] for user in USERS])

    await wait_until(all_folded, what="the facts of every event are in the states")
    await wait_until(lambda: rows_hold_each_increment_once(engine, signals), what="the rows equal a recount")


async def restarted(engine: Any, wait_until: Any, worker: Any) -> Any:
    """Wait until a worker ends by itself, and start another, as its supervisor does."""
    await wait_until(lambda: worker.process.poll() is not None, what="the worker ends by itself")
    assert worker.process.returncode == 4
    return await engine.worker(STREAMREC_KAFKA__SESSION_TIMEOUT_S="6").ready()


def sequences_never_go_back(engine: Any) -> None:
    for user in USERS:
        sequences = [made["sequence"] for made in engine.lists_of(user)]
        assert sequences == sorted(sequences)


async def begin(engine: Any, quick: dict[str, str]) -> tuple[Any, list[str], list[Any]]:
    worker = await engine.worker(**quick).ready()
    items = await engine.load_shop()
    return worker, items, await engine.follow(engine.config.topics.item_signals)


def test_an_emptied_redis_is_noticed_by_a_worker_that_has_nothing_to_do_and_filled_again(
    run: Any, wait_until: Any, quick_death: dict[str, str]
) -> None:
    async def body(engine: Any) -> None:
        worker, items, signals = await begin(engine, quick_death)
        events = await publish_events(engine, items, 60, seed=3)
        await all_is_whole(engine, wait_until, events, signals)
        await engine.redis.flushall()
        worker = await restarted(engine, wait_until, worker)
        await all_is_whole(engine, wait_until, events, signals)
        assert worker.metric("streamrec_rewinds_total", cause="forgot") > 0
        assert worker.metric("streamrec_missing_messages_total") == 0
        sequences_never_go_back(engine)

    run(body)


@pytest.mark.parametrize("loss", ["emptied", "older"])
def test_events_that_come_while_redis_forgets_are_folded_onto_all_that_came_before(
    run: Any, wait_until: Any, quick_death: dict[str, str], tmp_path: Path, loss: str
) -> None:
    async def body(engine: Any) -> None:
        worker, items, signals = await begin(engine, quick_death)
        events = await publish_events(engine, items, 40, seed=4)
        await all_is_whole(engine, wait_until, events, signals)
        snapshot = Snapshot(engine, tmp_path)
        events += await publish_events(engine, items, 40, seed=5)
        if loss == "older":
            await all_is_whole(engine, wait_until, events, signals)
            await snapshot.put_back()
        else:
            await engine.redis.flushall()
        events += await publish_events(engine, items, 40, seed=6)
        await restarted(engine, wait_until, worker)
        events += await publish_events(engine, items, 10, seed=7)
        await all_is_whole(engine, wait_until, events, signals)
        sequences_never_go_back(engine)

    run(body)


@pytest.mark.parametrize("loss", ["emptied", "older"])
@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_what_redis_forgot_while_no_worker_ran_is_folded_again_at_the_next_start(
    run: Any, wait_until: Any, quick_death: dict[str, str], tmp_path: Path, loss: str, end: str
) -> None:
    async def body(engine: Any) -> None:
        worker, items, signals = await begin(engine, quick_death)
        events = await publish_events(engine, items, 40, seed=8)
        await all_is_whole(engine, wait_until, events, signals)
        snapshot = Snapshot(engine, tmp_path)
        events += await publish_events(engine, items, 40, seed=9)
        await all_is_whole(engine, wait_until, events, signals)
        ended: Callable[[], Any] = getattr(worker, end)
        ended()
        if loss == "older":
            await snapshot.put_back()
        else:
            await engine.redis.flushall()
        events += await publish_events(engine, items, 10, seed=10)
        worker = await engine.worker(**quick_death).ready()
        await all_is_whole(engine, wait_until, events, signals)
        assert worker.process.poll() is None
        sequences_never_go_back(engine)

    run(body)


def test_without_a_loss_nothing_is_read_again(run: Any, wait_until: Any, quick_death: dict[str, str]) -> None:
    async def body(engine: Any) -> None:
        worker, items, signals = await begin(engine, quick_death)
        events = await publish_events(engine, items, 40, seed=11)
        await all_is_whole(engine, wait_until, events, signals)
        assert worker.terminate() == 0
        worker = await engine.worker(**quick_death).ready()
        events += await publish_events(engine, items, 10, seed=12)
        await all_is_whole(engine, wait_until, events, signals)
        assert worker.metric("streamrec_rewinds_total") == 0

    run(body)


@pytest.mark.parametrize("is_running", [True, False])
def test_a_topic_that_is_made_anew_is_noticed_and_its_events_are_used_and_teach(
    run: Any, wait_until: Any, quick_death: dict[str, str], is_running: bool
) -> None:
    from stream.adapters.kafka_topics import create_topics

    async def body(engine: Any) -> None:
        worker, items, signals = await begin(engine, quick_death)
        events = await publish_events(engine, items, 60, seed=13)
        await all_is_whole(engine, wait_until, events, signals)
        if not is_running:
            assert worker.terminate() == 0
        async with admin(engine.config.kafka) as client:
            await client.delete_topics([engine.config.topics.clicks, engine.config.topics.searches])

        async def made() -> bool:
            async with admin(engine.config.kafka) as client:
                if engine.config.topics.clicks in await client.list_topics():
                    return False
            await create_topics(engine.config)
            return True

        await wait_until(made, what="the topics are deleted and made again")
        if not is_running:
            worker = await engine.worker(**quick_death).ready()

        def noticed() -> bool:
            """It is, when partitions are taken, or else by a worker that ends with code 4."""
            nonlocal worker
            if worker.process.poll() is not None:
                assert worker.process.returncode == 4
                worker = engine.worker(**quick_death)
            return bool(worker.metric("streamrec_rewinds_total", cause="recreated"))

        await wait_until(noticed, what="the new topics are noticed")
        events += await publish_events(engine, items, 30, seed=14)
        await all_is_whole(engine, wait_until, events, signals)

    run(body)
