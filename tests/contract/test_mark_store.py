"""What every store of marks promises."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis_masters import FAKE_AND_REAL, redis_of

from stream.adapters import redis_client
from stream.adapters.redis_marks import RedisMarkStore
from stream.config import Redis as RedisSettings
from stream.core.marks import Mark
from stream.errors import StateUnavailable
from stream.fakes import MemoryMarkStore
from stream.ports import MarkStore, Place

Run = Callable[[Callable[..., Awaitable[None]]], None]
HERE: Place = ("clicks", 3)
THERE: Place = ("searches", 3)
VERSIONS = {"ann": 1_790_000_000_123, "bob": 2**40}
"""What is stored of shoppers."""


@asynccontextmanager
async def _redis(url: str, timeout_ms: int = 5_000, cluster: bool = False) -> AsyncIterator[Any]:
    client = redis_client.connect(RedisSettings(url=url, timeout_ms=timeout_ms, cluster=cluster))
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture(params=FAKE_AND_REAL)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's body on a store of its own."""

    async def on_fake(body: Callable[[MarkStore], Awaitable[None]]) -> None:
        await body(MemoryMarkStore(lambda user: VERSIONS.get(user, 0)))

    async def on_redis(body: Callable[[MarkStore], Awaitable[None]]) -> None:
        async with _redis(at.url, cluster=at.cluster) as client:
            prefix = f"{uuid.uuid4().hex}:"
            for user, version in VERSIONS.items():
                key = redis_client.keys_for(client, prefix).of("u", user)
                await client.set(key, b"\x01" + redis_client.version_bytes(version) + b"state")
            await body(RedisMarkStore(client, "group", prefix))

    if request.param == "fake":
        return lambda body: asyncio.run(on_fake(body))
    at = redis_of(request)
    return lambda body: asyncio.run(on_redis(body))


def test_a_partition_that_was_never_marked_has_no_mark(run: Run) -> None:
    async def body(store: MarkStore) -> None:
        assert await store.read([HERE, THERE]) == {}
        assert await store.read([]) == {}
        assert await store.swap({}) == {}

    run(body)


def test_a_mark_is_read_as_it_was_set(run: Run) -> None:
    async def body(store: MarkStore) -> None:
        new = {HERE: Mark(0), THERE: Mark(2**60, 1_790_000_000_000)}
        assert await store.swap({place: (None, mark) for place, mark in new.items()}) == new
        assert await store.read([HERE, THERE, ("clicks", 4)]) == new

    run(body)


def test_a_mark_moves_only_from_what_is_expected(run: Run) -> None:
    async def body(store: MarkStore) -> None:
        await store.swap({HERE: (None, Mark(7, 1))})
        for expected in (None, Mark(6, 1), Mark(7), Mark(8, 1)):
            assert await store.swap({HERE: (expected, Mark(9, 1))}) == {HERE: Mark(7, 1)}
        assert await store.swap({HERE: (Mark(7, 1), Mark(5, 2))}) == {HERE: Mark(5, 2)}
        assert await store.read([HERE]) == {HERE: Mark(5, 2)}

    run(body)


def test_a_mark_that_is_gone_is_not_made_anew_by_who_expects_one(run: Run) -> None:
    async def body(store: MarkStore) -> None:
        assert await store.swap({HERE: (Mark(7), Mark(9))}) == {HERE: None}
        assert await store.read([HERE]) == {}

    run(body)


def test_of_two_who_expect_the_same_mark_one_moves_it(run: Run) -> None:
    async def body(store: MarkStore) -> None:
        await store.swap({HERE: (None, Mark(1))})
        answers = await asyncio.gather(*(store.swap({HERE: (Mark(1), Mark(n))}) for n in range(2, 12)))
        found = await store.read([HERE])
        assert [answer for answer in answers if answer == found] == answers

    run(body)


def test_groups_have_marks_of_their_own_that_never_expire(stack: Any) -> None:
    async def body() -> None:
        prefix = f"{uuid.uuid4().hex}:"
        async with _redis(stack.endpoints.redis) as client:
            await RedisMarkStore(client, "one", prefix).swap({HERE: (None, Mark(3))})
            assert await RedisMarkStore(client, "other", prefix).read([HERE]) == {}
            assert await client.pttl(f"{prefix}m:one/clicks/3") == -1

    asyncio.run(body())


def test_what_is_no_mark_is_told_with_its_key_and_the_cure(stack: Any) -> None:
    async def body() -> None:
        prefix = f"{uuid.uuid4().hex}:"
        async with _redis(stack.endpoints.redis) as client:
            await client.set(f"{prefix}m:group/clicks/3", "what")
            with pytest.raises(StateUnavailable, match="delete the key"):
                await RedisMarkStore(client, "group", prefix).read([HERE])

    asyncio.run(body())


def test_a_redis_that_is_away_is_unavailable(closed_port: int, soon: Any) -> None:
    async def body() -> None:
        async with _redis(f"redis://127.0.0.1:{closed_port}", 200) as client:
            store = RedisMarkStore(client, "group")
            with pytest.raises(StateUnavailable):
                await soon(store.read([HERE]))
            with pytest.raises(StateUnavailable):
                await soon(store.swap({HERE: (None, Mark(1))}))

    asyncio.run(body())


@pytest.mark.parametrize(
    ("saved", "is_there"),
    [
        (VERSIONS, True),
        ({"ann": 1, "bob": 2**40 - 1}, True),
        ({"ann": 1_790_000_000_124}, False),
        ({"ann": 2**41}, False),
        ({"ann": 1, "cyd": 1}, False),
    ],
)
def test_a_mark_moves_only_where_what_was_saved_is_still_there(
    run: Run, saved: dict[str, int], is_there: bool
) -> None:
    async def body(store: MarkStore) -> None:
        changes = {HERE: (Mark(3), Mark(5)), THERE: (Mark(7), Mark(8))}
        await store.swap({HERE: (None, Mark(3)), THERE: (None, Mark(7))})
        moved = {HERE: Mark(5), THERE: Mark(8)}
        assert await store.swap(changes, saved) == (moved if is_there else dict.fromkeys(changes))
        assert await store.read([HERE, THERE]) == (moved if is_there else {HERE: Mark(3), THERE: Mark(7)})

    run(body)
