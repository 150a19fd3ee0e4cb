"""A worker killed with -9 in any step loses nothing, and one sequence never names two lists."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from recounts import USERS, folded, publish_events, rows_hold_each_increment_once

pytestmark = pytest.mark.servers
KILLED = str(Path(__file__).with_name("killed_worker.py"))


@pytest.mark.parametrize(
    "step",
    [
        "before-handle",
        "after-load",
        "before-signals",
        "after-signals",
        "before-save",
        "after-save",
        "before-publish",
        "after-publish",
        "after-handle",
    ],
)
def test_a_worker_killed_in_any_step_loses_nothing(
    run: Any, wait_until: Any, quick_death: dict[str, str], step: str
) -> None:
    async def body(engine: Any) -> None:
        first = await engine.worker().ready()
        items = await engine.load_shop()
        first.terminate()
        signals = await engine.follow(engine.config.topics.item_signals)
        events = await publish_events(engine, items, 40, seed=1)
        killed = engine.worker(sys.executable, KILLED, step, "1", **quick_death)
        await wait_until(lambda: killed.process.poll() == -9, what="the worker kills itself")
        events += await publish_events(engine, items, 40, seed=2)
        await engine.worker().ready()

        last_of = {event["user_id"]: event for event in events}
        for event in last_of.values():
            await engine.list_for(event)

        expected = folded(engine, events)

        async def all_folded() -> bool:
            """Clicks and searches lie in two topics: the last one sent may not be the last one read."""
            return all([(await engine.state(user)).facts == expected[user] for user in USERS])

        await wait_until(all_folded, what="the facts of every event are in the states")
        for user in USERS:
            lists = engine.lists_of(user)
            by_sequence: dict[int, Any] = {}
            for made in lists:
                assert by_sequence.setdefault(made["sequence"], made) == made
            sequences = [made["sequence"] for made in lists]
            assert sequences == sorted(sequences)

        await wait_until(lambda: rows_hold_each_increment_once(engine, signals), what="signals folded")

    run(body)
