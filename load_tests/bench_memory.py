"""Print what a shopper costs in Redis: python load_tests/bench_memory.py [--interactions 50]

Asks a Redis of its own (`MEMORY USAGE`: the key and what Redis adds included) about shoppers who viewed, put
in the cart and bought random items of a shop of 100,000, and searched now and then; made up and seeded.
What Redis' memory grew by has in it besides what expiry and Redis' tables take. Lists that are kept for
attribution are the most that are kept of a shopper, for `policy.list_valid_hours`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import subprocess
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from redis.asyncio import Redis

from stream.adapters import redis_client
from stream.adapters.redis_kept_lists import RedisKeptLists
from stream.adapters.redis_state import RedisStateStore
from stream.config import Redis as RedisSettings
from stream.core.attribution import MADE_KEPT
from stream.core.codec import encode
from stream.core.events import (
    ClickEvent,
    Line,
    RecommendationList,
    RecommendedItem,
    SearchEvent,
    Source,
    Trigger,
)
from stream.core.policy import HOUR_MS, Policy
from stream.core.state import UserState, apply, empty
from stream.errors import StateUnavailable
from stream.local import ports, redis

NOW_MS = 1_790_000_000_000
STARTED_WITHIN_S = 30.0
LENGTH = 20
SOURCES = ["session", "history", "trending", "new"]
KINDS = ["view_item"] * 7 + ["add_to_cart"] * 2 + ["purchase"]
WORDS = ["red", "blue", "small", "large", "wooden", "garden", "kitchen", "mug", "lamp", "clock"]


def item_id(number: int, hashed: bool) -> str:
    """An item's id as shops have them: a number, or what says nothing and cannot be made shorter."""
    return sha256(str(number).encode()).hexdigest()[:32] if hashed else f"{number:06d}"


def shopper(number: int, interactions: int, hashed: bool) -> UserState:
    """A shopper who did so many different things, in sessions of about five, a few days apart."""
    made = random.Random(number)
    user = f"shopper-{number:06d}"
    state, policy = empty(user)._replace(sequence=NOW_MS), Policy()
    at_ms = NOW_MS - interactions * 20 * HOUR_MS
    events = 0
    while len(state.interactions) < interactions:
        at_ms += made.randrange(5_000, 180_000) if made.random() < 0.8 else made.randrange(1, 120) * HOUR_MS
        source = Source("clicks", number % 8, events, at_ms)
        if made.random() < 0.1:
            query = " ".join(made.sample(WORDS, made.randint(1, 3)))
            event: ClickEvent | SearchEvent = SearchEvent(
                f"e{number}-{events}", user, at_ms, source, query, None, None
            )
        else:
            lines = (Line(item_id(made.randrange(100_000), hashed), 1, None),)
            kind = made.choice(KINDS)
            event = ClickEvent(f"e{number}-{events}", user, at_ms, source, kind, lines, None, None)
        state = apply(state, event, policy)
        events += 1
    return state


def recommended(user: str, number: int) -> RecommendationList:
    """A list of random items."""
    made = random.Random(f"{user} {number}")
    items = [
        RecommendedItem(f"{made.randrange(100_000):06d}", rank, 0.5, made.choice(SOURCES), "", 1.0)
        for rank in range(1, LENGTH + 1)
    ]
    return RecommendationList(
        schema_version=1,
        recommendation_id=f"{made.getrandbits(128):032x}",
        user_id=user,
        placement="home",
        sequence=NOW_MS + number,
        generated_at=NOW_MS + number,
        expires_at=NOW_MS + number + 24 * HOUR_MS,
        trigger=Trigger("e", "clicks", 0, number, NOW_MS),
        model_versions={"encoder": "2", "reranker": "1"},
        degraded=[],
        items=items,
        policy="0123456789ab",
    )


async def measured(port: int, states: list[UserState]) -> tuple[list[int], list[int], float]:
    """Bytes of each state's key, of each shopper's lists, and what Redis' memory grew by for each state."""
    client = redis_client.connect(RedisSettings(url=f"redis://127.0.0.1:{port}", timeout_ms=60_000))
    assert isinstance(client, Redis)
    try:
        store = RedisStateStore(client)
        end_s = time.monotonic() + STARTED_WITHIN_S
        while True:
            try:
                await store.load(["nobody"])
                break
            except StateUnavailable:
                if time.monotonic() > end_s:
                    raise
                await asyncio.sleep(0.05)
        before = (await client.info("memory"))["used_memory"]
        for first in range(0, len(states), 100):
            await store.save([(state, 0) for state in states[first : first + 100]])
        after = (await client.info("memory"))["used_memory"]
        await RedisKeptLists(client, 72.0).remember(
            [made for state in states for made in (recommended(state.user_id, n) for n in range(MADE_KEPT))]
        )
        used = [int(await client.memory_usage(f"sr:u:{state.user_id}", samples=0) or 0) for state in states]
        kept = [int(await client.memory_usage(f"sr:l:{state.user_id}", samples=0) or 0) for state in states]
    finally:
        await client.aclose()
    return used, kept, (after - before) / len(states)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--interactions", type=int, default=50, help="of each shopper (default 50)")
    parser.add_argument("--shoppers", type=int, default=2_000, help="how many (default 2,000)")
    parser.add_argument(
        "--hashed", action="store_true", help="items' ids are 32 characters of a hash, not 6 digits"
    )
    wanted = parser.parse_args()
    states = [shopper(number, wanted.interactions, wanted.hashed) for number in range(wanted.shoppers)]
    (port,) = ports.choose(["redis"]).values()
    with tempfile.TemporaryDirectory() as folder:
        server = redis.find().server(Path(folder), {"redis": port}, {})
        process = subprocess.Popen(server.argv, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            used, kept, grew_by = asyncio.run(measured(port, states))
        finally:
            process.kill()
            process.wait()
    searches = statistics.mean(len(state.searches) for state in states)
    owned = statistics.mean(len(state.owned) for state in states)
    print(
        f"{wanted.shoppers} shoppers of {wanted.interactions} interactions, {searches:.1f} searches and "
        f"{owned:.1f} bought items, ids such as {item_id(4711, wanted.hashed)}"
    )
    print(f"encoded: {statistics.mean(len(encode(state)) for state in states):.0f} bytes on average")
    print(f"MEMORY USAGE: median {statistics.median(used):.0f}, most {max(used)} bytes")
    print(f"memory that Redis took: {grew_by:.0f} bytes a shopper")
    print(
        f"{MADE_KEPT} lists of {LENGTH} kept for attribution: median {statistics.median(kept):.0f} bytes more"
    )


if __name__ == "__main__":
    main()
