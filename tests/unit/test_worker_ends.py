"""A worker ends for a reason, whatever hangs, and its exit code says which."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from stream import worker
from stream.config import Config, Telemetry
from stream.process.endings import Ending
from stream.worker import Worker


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(worker, "CLOSE_S", 0.05)
    return Config(telemetry=Telemetry(port=0))


async def never() -> None:
    await asyncio.Event().wait()


def test_a_redis_that_forgets_while_a_worker_starts_ends_it_even_where_parts_do_not_close(
    config: Config,
) -> None:
    class Starting(Worker):
        async def _start(self, parts: AsyncExitStack, status: Any) -> None:
            parts.push_async_callback(never)
            self._forgotten.set()
            await never()

    async def body() -> Ending:
        return await Starting(config).run()

    assert asyncio.run(asyncio.wait_for(body(), 60)) is Ending.FORGOTTEN


def test_a_broker_that_goes_away_while_a_worker_joins_ends_it_without_a_stack_trace(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    class Joining(Worker):
        async def _start(self, parts: AsyncExitStack, status: Any) -> None:
            raise KafkaConnectionError("gone")

    async def body() -> Ending:
        return await Joining(config).run()

    assert asyncio.run(asyncio.wait_for(body(), 60)) is Ending.GAVE_UP
    assert "Kafka went away while its groups were joined" in caplog.text


def test_what_is_done_again_and_again_outlives_a_cancellation_that_was_not_meant_for_it() -> None:
    async def body() -> int:
        calls = 0
        again = asyncio.Event()

        async def call() -> None:
            nonlocal calls
            calls += 1
            if calls > 1:
                again.set()
                await asyncio.get_running_loop().create_future()
            waited_for = asyncio.get_running_loop().create_future()
            waited_for.cancel()
            await waited_for

        task = asyncio.ensure_future(worker._every(0.0, "a part", call))
        async with asyncio.timeout(60):
            await again.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        return calls

    assert asyncio.run(body()) == 2
