"""A worker killed with -9 in any step loses nothing, and one sequence never names two lists."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from stream.core.events import Source, decode_click, decode_search
from stream.core.signals import decode_increments
from stream.core.state import apply, empty

pytestmark = pytest.mark.servers
KILLED = str(Path(__file__).with_name("killed_worker.py"))
USERS = [f"shopper-{number}" for number in range(8)]


async def publish_events(engine: Any, items: list[str], count: int, seed: int) -> list[dict[str, Any]]:
    """Publish random clicks and searches, some twice, and return all in order of publishing."""
    random_ = random.Random(seed)
    sent = []
    for _ in range(count):
        user = random_.choice(USERS)
        if random_.random() < 0.2:
            sent.append(await engine.search(user, random_.choice(["red mug", "blue clock"])))
        else:
            kind = random_.choice(["view_item", "add_to_cart", "purchase"])
            sent.append(await engine.click(user, random_.choice(items), kind))
        if random_.random() < 0.1:
            topic = (
                engine.config.topics.searches if "search_query" in sent[-1] else engine.config.topics.clicks
            )
            await engine.send(topic, user, sent[-1])
    return sent


def folded(engine: Any, events: list[dict[str, Any]]) -> dict[str, Any]:
    """The facts of every shopper by folding all events in memory."""
    states = {user: empty(user) for user in USERS}
    far = Source("any", 0, 0, 10**15)
    for event in events:
        user = event["user_id"]
        decode = decode_search if "search_query" in event else decode_click
        decoded = decode(far, user.encode(), json.dumps(event).encode())
        states[user] = apply(states[user], decoded, engine.config.policy)
    return {user: state.facts for user, state in states.items()}


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


async def rows_hold_each_increment_once(engine: Any, signals: list[Any]) -> bool:
    """Compare each item's stored popularity with that of the distinct increments published for it."""
    from stream.adapters.redis_signals import RedisSignalStore
    from stream.core.signals import fold

    once: dict[str, dict[tuple[str, int], Any]] = {}
    for record in signals:
        for increment in decode_increments(record.value):
            key = (increment.source, increment.offset)
            known = once.setdefault(record.key.decode(), {}).setdefault(key, increment)
            assert known == increment, "a replay computed other increments than the first time"
    store = RedisSignalStore(engine.redis, engine.config.redis.key_prefix)
    stored = await store.load(list(once))
    for item_id, increments in once.items():
        ordered = [increments[key] for key in sorted(increments)]
        if item_id not in stored:
            return False
        expected, found = fold(None, ordered).popularity, stored[item_id].signals.popularity
        # Sums of floats in another order; counting one of n twice would add log2((n + 1) / n).
        if max(abs(one - other) for one, other in zip(expected, found, strict=True)) > 1e-3:
            return False
    return bool(once)
