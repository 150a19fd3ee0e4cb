"""Publishers that use Kafka's transactions: what was aborted was never said, what is open is not said yet."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from stream.adapters.kafka_reading import partition_of

pytestmark = pytest.mark.servers


def test_only_what_is_committed_counts_and_an_open_transaction_holds_back_its_partition_alone(
    run: Any, wait_until: Any
) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        items = await engine.load_shop()
        plain = engine.producer
        partition = {name: partition_of(name.encode(), 4) for name in ("cyd", "dan", "eve", "fay", "gus")}
        free = next(name for name in partition if partition[name] != partition["cyd"])
        async with AIOKafkaProducer(
            bootstrap_servers=engine.config.kafka.bootstrap, transactional_id=engine.name
        ) as teller:
            engine.producer = teller
            async with teller.transaction():
                first = await engine.click("ann", items[0])
            await teller.begin_transaction()
            for user in ("ann", "bob"):
                await engine.click(user, items[1], "purchase")
            await teller.abort_transaction()
            async with teller.transaction():
                last = await engine.click("ann", items[2])
            for event in (first, last):
                await engine.list_for(event)
            seen = [entry.item_id for entry in (await engine.state("ann")).interactions]
            assert seen == [items[0], items[2]]

            await teller.begin_transaction()
            await engine.click("cyd", items[0])
            engine.producer = plain
            behind = await engine.click("cyd", items[1])
            await engine.list_for(await engine.click(free, items[3]))
            left = {"topic": engine.config.topics.clicks, "partition": str(partition["cyd"])}
            await wait_until(
                lambda: worker.metric("streamrec_messages_left", **left) == 0,
                what="what cannot be read yet is not left to do",
            )
            assert engine.lists_of("cyd") == []
            await teller.commit_transaction()
            await engine.list_for(behind)
        seen = [entry.item_id for entry in (await engine.state("cyd")).interactions]
        assert seen == [items[0], items[1]]
        assert not (await engine.state("bob")).interactions
        assert engine.lists_of("bob") == []
        assert worker.metric("streamrec_rewinds_total", cause="skipped") == 0
        assert "passed over" not in worker.log.read_text()

    run(body)
