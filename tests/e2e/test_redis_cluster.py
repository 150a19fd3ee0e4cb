"""A worker on a Redis Cluster: it waits for a master that is away, and heals one that came back empty."""

from __future__ import annotations

from typing import Any

import pytest
from recounts import USERS, folded, publish_events, rows_hold_each_increment_once
from redis_masters import Masters

pytestmark = pytest.mark.servers


async def all_is_whole(engine: Any, wait_until: Any, events: list[dict[str, Any]], signals: Any) -> None:
    """Wait until the facts of all events are in the states, and each increment once in the rows."""
    expected = folded(engine, events)

    async def all_folded() -> bool:
        return all([(await engine.state(user)).facts == expected[user] for user in USERS])

    await wait_until(all_folded, what="the facts of every event are in the states")
    await wait_until(lambda: rows_hold_each_increment_once(engine, signals), what="the rows equal a recount")


def test_a_master_that_is_away_is_waited_for_and_one_that_forgot_is_filled_again(
    run: Any, wait_until: Any, quick_death: dict[str, str], masters: Masters
) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker(**quick_death).ready()
        items = await engine.load_shop()
        signals = await engine.follow(engine.config.topics.item_signals)
        events = await publish_events(engine, items, 40, seed=3)
        await all_is_whole(engine, wait_until, events, signals)

        masters.kill(1)
        try:
            events += await publish_events(engine, items, 40, seed=4)
            await wait_until(lambda: "Redis" in worker.status()[1], what="the worker says what it waits for")
            assert worker.process.poll() is None
        finally:
            masters.start(1)
            masters.settle()
        await all_is_whole(engine, wait_until, events, signals)

        masters.kill(2)
        masters.empty(2)
        masters.start(2)
        masters.settle()
        await wait_until(lambda: worker.process.poll() is not None, what="the worker ends by itself")
        assert worker.process.returncode == 4
        worker = await engine.worker(**quick_death).ready()
        events += await publish_events(engine, items, 10, seed=5)
        await all_is_whole(engine, wait_until, events, signals)
        assert worker.metric("streamrec_rewinds_total", cause="forgot") > 0
        for user in USERS:
            sequences = [made["sequence"] for made in engine.lists_of(user)]
            assert sequences == sorted(set(sequences))

    run(body, STREAMREC_REDIS__URL=masters.url, STREAMREC_REDIS__CLUSTER="true")
