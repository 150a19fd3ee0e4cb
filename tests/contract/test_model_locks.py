"""What every lock on the versions of a model keeps to: the fake, and Redis."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis_masters import FAKE_AND_REAL, redis_of

from stream.adapters import redis_client, redis_locks
from stream.adapters.redis_locks import RedisModelLocks
from stream.config import Redis as RedisSettings
from stream.errors import ModelBusy, StateUnavailable
from stream.fakes import MemoryModelLocks
from stream.ports import ModelLocks

Two = tuple[ModelLocks, ModelLocks]


@asynccontextmanager
async def in_redis(at: RedisSettings) -> AsyncIterator[Two]:
    """The locks as two machines see them."""
    async with redis_client.connect(at) as client:
        prefix = f"{uuid.uuid4().hex}:"
        yield RedisModelLocks(client, prefix, "ann on a"), RedisModelLocks(client, prefix, "bob on b")


@asynccontextmanager
async def with_its_key(url: str) -> AsyncIterator[tuple[ModelLocks, Any, str]]:
    """The locks of one machine, and a client and the key by which the encoder's can be seen and changed."""
    async with redis_client.connect(RedisSettings(url=url, timeout_ms=1_000)) as client:
        prefix = f"{uuid.uuid4().hex}:"
        yield RedisModelLocks(client, prefix, "ann on a"), client, f"{prefix}lock:encoder"


@pytest.fixture
def renewed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let locks be renewed many times while a test waits for it."""
    monkeypatch.setattr(redis_locks, "RENEW_S", 0.01)


@pytest.fixture(params=FAKE_AND_REAL)
def on_locks(request: pytest.FixtureRequest) -> Callable[[Callable[[Two], Awaitable[None]]], None]:
    """Run a coroutine with the locks of two owners."""
    at = None if request.param == "fake" else redis_of(request)

    def run(body: Callable[[Two], Awaitable[None]]) -> None:
        async def connected() -> None:
            if at is None:
                held_by: dict[str, str] = {}
                await body((MemoryModelLocks(held_by, "ann on a"), MemoryModelLocks(held_by, "bob on b")))
                return
            async with in_redis(at) as locks:
                await body(locks)

        asyncio.run(connected())

    return run


def test_who_comes_second_is_told_who_does_what(on_locks: Any) -> None:
    async def body(locks: Two) -> None:
        ann, bob = locks
        async with ann.held("encoder", "promote encoder 2"):
            with pytest.raises(ModelBusy, match="promote encoder 2, by ann on a"):
                async with bob.held("encoder", "rollback encoder"):
                    pytest.fail("two at once")
            with pytest.raises(ModelBusy):
                async with ann.held("encoder", "load encoder 3"):
                    pytest.fail("two at once")

    on_locks(body)


def test_a_lock_is_free_after_its_block_however_that_ends(on_locks: Any) -> None:
    async def body(locks: Two) -> None:
        ann, bob = locks
        with pytest.raises(ZeroDivisionError):
            async with ann.held("encoder", "promote encoder 2"):
                raise ZeroDivisionError
        async with bob.held("encoder", "promote encoder 3"):
            pass

    on_locks(body)


def test_models_do_not_wait_for_each_other(on_locks: Any) -> None:
    async def body(locks: Two) -> None:
        ann, bob = locks
        async with ann.held("encoder", "promote encoder 2"), bob.held("reranker", "promote reranker 5"):
            pass

    on_locks(body)


def test_a_redis_that_is_away_locks_nothing() -> None:
    async def body() -> None:
        async with in_redis(RedisSettings(url="redis://127.0.0.1:1/0")) as (ann, _):
            with pytest.raises(StateUnavailable):
                async with ann.held("encoder", "promote encoder 2"):
                    pytest.fail("nothing was locked")

    asyncio.run(body())


@pytest.mark.servers
@pytest.mark.usefixtures("renewed_often")
def test_a_lock_says_since_when_outlives_its_time_while_renewed_and_goes_with_its_holder(
    stack: Any,
) -> None:
    async def body() -> None:
        async with with_its_key(stack.endpoints.redis) as (locks, client, key):
            async with locks.held("encoder", "promote encoder 2"):
                with pytest.raises(ModelBusy, match=r"since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"):
                    async with locks.held("encoder", "load encoder 2"):
                        pytest.fail("two at once")
                await client.pexpire(key, 30_000)
                async with asyncio.timeout(120):
                    while await client.pttl(key) <= 30_000:  # noqa: ASYNC110 (until it is renewed)
                        await asyncio.sleep(0.01)
            assert await client.get(key) is None

    asyncio.run(body())


@pytest.mark.servers
@pytest.mark.usefixtures("renewed_often")
def test_what_runs_under_a_lock_that_another_has_now_ends_and_leaves_that_one_alone(
    stack: Any,
) -> None:
    async def body() -> None:
        async with with_its_key(stack.endpoints.redis) as (locks, client, key):

            async def promote() -> None:
                async with asyncio.timeout(120), locks.held("encoder", "promote encoder 2"):
                    await client.set(key, b"another's")
                    await asyncio.Event().wait()

            with pytest.raises(StateUnavailable, match="could not be renewed"):
                await promote()
            assert await client.get(key) == b"another's"
            with pytest.raises(ModelBusy, match="by someone else"):
                async with locks.held("encoder", "promote encoder 2"):
                    pytest.fail("two at once")

    asyncio.run(body())
