"""A worker whose policy releases shared signals with noise: lists read what was released and nothing else."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from builders import raw_click

from stream.adapters.redis_ledger import RedisReleaseLedger, released_signals
from stream.adapters.redis_signals import RedisSignalStore
from stream.fakes import ExactCounts, MemoryStateStore
from stream.signals.releasing import Counting, Releaser

pytestmark = pytest.mark.servers

SHARED = {"covisited", "trending"}
"""Why an item is in a list that live on what other shoppers taught."""


def test_lists_read_the_release_and_not_the_raw_signals(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        items = await engine.load_shop()
        seen, raw, released = items[3], items[44], items[20]
        for number in range(6):
            for item in (seen, raw):
                await engine.list_for(await engine.click(f"crowd-{number}", item))
        prefix = engine.config.redis.key_prefix
        of_stream = RedisSignalStore(engine.redis, prefix)

        async def learnt() -> bool:
            found = (await of_stream.load([seen])).get(seen)
            return found is not None and raw in found.signals.neighbours

        async def list_of(user: str) -> dict[str, dict[str, Any]]:
            made = await engine.list_for(await engine.click(user, seen))
            return {item["item_id"]: item for item in made["items"]}

        await wait_until(learnt, what="the raw signals tell of the pair")
        before = await list_of("early")
        assert len(before) == engine.config.policy.list_length
        assert not {item["source"] for item in before.values()} & SHARED
        assert math.isnan(worker.metric("streamrec_release_end_timestamp_seconds"))

        ledger = RedisReleaseLedger(engine.redis, prefix)
        rows = released_signals(engine.redis, prefix)
        releaser = Releaser(ledger, rows, ExactCounts(epsilon=1.0), engine.config.policy.release)
        period = await releaser.due(time.time_ns() // 1_000_000)
        assert period is not None
        counting = Counting(MemoryStateStore(), engine.config.policy, period)
        await counting.add(
            [
                raw_click(f"shopper-{who}", item, offset=2 * who + place, at_ms=period.begin_ms + place)
                for who in range(20)
                for place, item in enumerate((seen, released))
            ]
        )
        await releaser.release(period, counting.counts, items)

        async def is_read() -> bool:
            made = await list_of(f"asker-{time.monotonic_ns()}")
            assert made.get(raw, {}).get("source") not in SHARED
            return made.get(released, {}).get("source") == "covisited"

        await wait_until(is_read, what="the released pair is recommended")
        await wait_until(
            lambda: worker.metric("streamrec_release_end_timestamp_seconds") == period.end_ms / 1000,
            what="the metrics tell of the release",
        )
        assert worker.metric("streamrec_release_epsilon_spent") == 1.0

    run(body, STREAMREC_POLICY__RELEASE=json.dumps({"epsilon": 1, "period_days": 1}))
