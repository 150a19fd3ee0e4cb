"""What every ledger of releases promises."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest
from redis_masters import FAKE_AND_REAL, redis_of

from stream.adapters import redis_client
from stream.adapters.redis_ledger import KEY, RedisReleaseLedger
from stream.config import Redis as RedisSettings
from stream.core.release import BETWEEN, Ledger, Spent
from stream.errors import StateUnavailable
from stream.fakes import MemoryReleaseLedger
from stream.ports import ReleaseLedger

Run = Callable[[Callable[[ReleaseLedger], Awaitable[None]]], None]
FIRST = Ledger((Spent(20_000, 20_007, 2.0, 1e-6, 1, 1),), {"mug": 7, f"cup{BETWEEN}mug": 9})
SECOND = Ledger((*FIRST.releases, Spent(20_007, 20_014, 2.0, 1e-6, 0, 0)))


@pytest.fixture(params=FAKE_AND_REAL)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's body on a ledger of its own."""
    if request.param == "fake":

        async def on_fake(body: Callable[[ReleaseLedger], Awaitable[None]]) -> None:
            await body(MemoryReleaseLedger())

        return lambda body: asyncio.run(on_fake(body))
    at = redis_of(request)

    async def on_redis(body: Callable[[ReleaseLedger], Awaitable[None]]) -> None:
        prefix = f"{uuid.uuid4().hex}:"
        async with redis_client.connect(RedisSettings(url=at.url, cluster=at.cluster)) as client:
            ledger = RedisReleaseLedger(client, prefix)
            await body(ledger)
            await client.set(redis_client.keys_for(client, prefix).shared(KEY), b"\x01damaged, and long")
            with pytest.raises(StateUnavailable, match="restore it"):
                await ledger.read()

    return lambda body: asyncio.run(on_redis(body))


def test_of_two_who_write_what_they_read_one_does(run: Run) -> None:
    async def body(ledger: ReleaseLedger) -> None:
        assert await ledger.read() == (Ledger(), 0)
        assert await ledger.write(FIRST, 0)
        assert not await ledger.write(SECOND, 0)
        found, version = await ledger.read()
        assert found == FIRST
        assert await ledger.write(SECOND, version)
        assert not await ledger.write(FIRST, version)
        assert (await ledger.read())[0] == SECOND

    run(body)
