"""Random shoppers' events, and what must be stored once all of them are folded."""

from __future__ import annotations

import json
import random
from typing import Any

from stream.adapters.redis_signals import RedisSignalStore
from stream.core.events import Source, decode_click, decode_search
from stream.core.signals import decode_increments, fold
from stream.core.state import apply, empty

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


async def rows_hold_each_increment_once(engine: Any, signals: list[Any]) -> bool:
    """Compare each item's stored popularity with that of the distinct increments published for it."""
    once: dict[str, dict[tuple[str, int], Any]] = {}
    for record in signals:
        for taught in decode_increments(record.key, record.value):
            for increment in taught.increments:
                key = (increment.source, increment.offset)
                known = once.setdefault(taught.item_id, {}).setdefault(key, increment)
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
