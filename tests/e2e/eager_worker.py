"""A worker that always fetches too early: `python eager_worker.py`.

A fetch that was under way when partitions changed hands goes on as soon as they are assigned. What it takes
before the worker seeks to the committed offsets is dropped, so that the seek has to bring it back.
"""

from __future__ import annotations

from typing import Any

from faust.transport.drivers import aiokafka as driver

from stream.config import load_config
from stream.worker import run_worker

DEADLINE_S = 30.0


def fetch_too_early() -> None:
    """Take first records, and drop them, whenever committed offsets are about to be sought."""
    sound = driver.Consumer.perform_seek

    async def perform_seek(self: Any) -> None:
        fetcher = self._thread._ensure_consumer()._fetcher
        taken = await self._thread.call_thread(fetcher.fetched_records, set(), DEADLINE_S)
        print("fetched too early:", {tp: len(records) for tp, records in taken.items()}, flush=True)
        await sound(self)

    driver.Consumer.perform_seek = perform_seek


if __name__ == "__main__":
    fetch_too_early()
    raise SystemExit(run_worker(load_config()))
