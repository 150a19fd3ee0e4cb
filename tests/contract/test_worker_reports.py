"""What every store of workers' reports keeps to: the fake, and Redis."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis_masters import FAKE_AND_REAL, redis_of

from stream.adapters import redis_client
from stream.adapters.redis_workers import RedisWorkerReports
from stream.config import Redis as RedisSettings
from stream.errors import StateUnavailable
from stream.fakes import MemoryWorkerReports
from stream.ports import WorkerReport, WorkerReports


def said(worker: str, serving: str = "1") -> WorkerReport:
    return WorkerReport(worker, {"encoder": serving}, {"encoder": 7}, 3, {"1": 0, "2": 3})


@asynccontextmanager
async def _redis(at: RedisSettings) -> AsyncIterator[RedisWorkerReports]:
    async with redis_client.connect(at) as client:
        yield RedisWorkerReports(client, f"{uuid.uuid4().hex}:")


@pytest.fixture(params=FAKE_AND_REAL)
def on_reports(
    request: pytest.FixtureRequest,
) -> Callable[[Callable[[WorkerReports], Awaitable[None]]], None]:
    """Run a coroutine with an empty store."""
    at = None if request.param == "fake" else redis_of(request)

    def run(body: Callable[[WorkerReports], Awaitable[None]]) -> None:
        async def connected() -> None:
            if at is None:
                await body(MemoryWorkerReports())
                return
            async with _redis(at) as reports:
                await body(reports)

        asyncio.run(connected())

    return run


def test_the_newest_word_of_every_worker_is_told(on_reports: Any) -> None:
    async def body(reports: WorkerReports) -> None:
        assert await reports.living() == []
        for report in (said("b"), said("a"), said("b", "2")):
            await reports.report(report)
        assert await reports.living() == [said("a"), said("b", "2")]

    on_reports(body)


def test_a_redis_that_is_away_is_unavailable() -> None:
    async def body() -> None:
        async with _redis(RedisSettings(url="redis://127.0.0.1:1/0")) as reports:
            with pytest.raises(StateUnavailable):
                await reports.report(said("a"))
            with pytest.raises(StateUnavailable):
                await reports.living()

    asyncio.run(body())


@pytest.mark.servers
def test_a_worker_that_is_silent_is_forgotten(stack: Any) -> None:
    async def body() -> None:
        async with redis_client.connect(RedisSettings(url=stack.endpoints.redis, timeout_ms=1_000)) as client:
            prefix = f"{uuid.uuid4().hex}:"
            reports = RedisWorkerReports(client, prefix)
            await reports.report(said("a"))
            await reports.report(said("b"))
            await client.delete(f"{prefix}w:a")  # as when its time is over
            assert await reports.living() == [said("b")]
            assert await client.smembers(f"{prefix}w") == {b"b"}

    asyncio.run(body())
