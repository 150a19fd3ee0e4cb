"""A few seconds of load on a real engine: every event is joined to its list, and nothing is left behind."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from traffic.page import page
from traffic.running import Plan, read_catalogue, run_load
from traffic.slo import Slo

from stream.adapters.kafka_clients import admin
from stream.adapters.kafka_reading import last_values

pytestmark = pytest.mark.servers
ALL_ANSWERED = Slo(unanswered_share=0)
"""A machine that runs everything at once is slow; what must hold is that nothing goes unanswered."""


def test_products_that_changed_under_load_are_put_back(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        await engine.worker().ready()
        await engine.load_shop()
        topic = engine.config.topics.items
        before = await last_values(engine.config.kafka, topic)
        catalogue = await read_catalogue(engine.config, 10, seed=1)
        plan = Plan("catalogue-churn", rate=20.0, seconds=3.0, warm_up_s=0.0, patience_s=200.0, shoppers=30)
        found = await run_load(plan, engine.config, catalogue, ALL_ANSWERED)
        assert found.held, found.checks
        assert await last_values(engine.config.kafka, topic) == before
        records = await engine.follow(topic)

        def touched() -> set[bytes]:
            return {key for key, count in Counter(record.key for record in records).items() if count > 1}

        await wait_until(touched, what="products that came more than once")
        assert touched() <= set(catalogue.messages), "only products that shoppers act on"

    run(body)


def test_all_events_of_a_steady_load_are_answered_and_all_of_the_engine_is_seen(run: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        await engine.load_shop()
        groups = await consumer_groups(engine)
        catalogue = await read_catalogue(engine.config, 50, seed=1)
        assert len(catalogue.products) == 50
        plan = Plan(
            "steady",
            rate=20.0,
            seconds=5.0,
            warm_up_s=1.0,
            patience_s=200.0,
            shoppers=30,
            processes=2,
            metrics=(f"http://127.0.0.1:{worker.port}/metrics", engine.stack.endpoints.metrics),
        )
        found = await run_load(plan, engine.config, catalogue, ALL_ANSWERED)

        counts = found.counts
        assert counts["sent"] > 50
        assert counts["answered"] == counts["sent"] == sum(one.sent for one in found.slices)
        assert found.held, found.checks
        # A shopper's list of one event comes after it, by both clocks.
        assert 0 < found.latency.percentiles["p50"].value <= found.latency.percentiles["p99"].value
        assert found.freshness.count == counts["sent"]
        assert found.clocks == ["events: LogAppendTime", "lists: LogAppendTime"]
        assert {"decode", "load", "rerank", "publish", "freshness"} <= set(found.stages)
        assert {"worker: events", "Triton: reranker"} <= set(found.batches)
        assert {"kafka", "redis", "triton", f"worker 127.0.0.1:{worker.port}", "load"} == set(found.used)
        assert all(one.most_open_files > 0 for one in found.used.values())
        assert any(one.lag is not None for one in found.samples)
        assert found.notes == [] or all("late themselves" in note for note in found.notes)
        assert 'id="stages"' in page(found)
        assert await consumer_groups(engine) == groups, "no consumer group was made"

    run(body)


async def consumer_groups(engine: Any) -> set[str]:
    async with admin(engine.config.kafka) as client:
        return {name for name, _ in await client.list_consumer_groups()}
