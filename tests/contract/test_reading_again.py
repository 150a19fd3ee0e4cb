"""What a consumer passed over is given again by the real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from stream.adapters.kafka_clients import admin
from stream.adapters.kafka_events import read_again
from stream.config import Kafka
from stream.local.stack import Stack

pytestmark = pytest.mark.servers


@asynccontextmanager
async def _transactions(stack: Stack) -> AsyncIterator[tuple[Kafka, str, AIOKafkaProducer]]:
    """A new topic of two partitions, and a producer that publishes to it in transactions."""
    kafka = Kafka(bootstrap=stack.endpoints.kafka)
    topic = f"clicks-{uuid4().hex[:8]}"
    async with admin(kafka) as client:
        await client.create_topics([NewTopic(topic, 2, 1)])
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic) as producer:
        yield kafka, topic, producer


def test_messages_at_offsets_are_given_and_marks_of_transactions_are_none(stack: Stack) -> None:
    async def scenario() -> None:
        async with _transactions(stack) as (kafka, topic, producer):
            for number in range(3):  # offsets 0, 2 and 4; 1, 3 and 5 are the transactions' own
                async with producer.transaction():
                    sent = await producer.send_and_wait(
                        topic, b"%d" % number, key=b"ann", partition=1, headers=[("who", b"shop")]
                    )
                    assert sent.offset == 2 * number
        found = await read_again(kafka, {(topic, 1): range(1, 5)})
        assert [one.source[:3] for one in found] == [(topic, 1, 2), (topic, 1, 4)]
        assert [(one.key, one.value, one.headers) for one in found] == [
            (b"ann", b"1", (("who", b"shop"),)),
            (b"ann", b"2", (("who", b"shop"),)),
        ]
        assert await read_again(kafka, {(topic, 1): range(3, 4)}) == []

    asyncio.run(scenario())


def test_what_was_aborted_is_not_given_and_what_is_open_is_not_waited_for(stack: Stack) -> None:
    async def scenario() -> None:
        async with _transactions(stack) as (kafka, topic, producer):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"aborted", key=b"ann", partition=0)
            await producer.abort_transaction()
            async with producer.transaction():
                await producer.send_and_wait(topic, b"committed", key=b"ann", partition=0)
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"open", key=b"ann", partition=0)
            found = await read_again(kafka, {(topic, 0): range(9)})
            assert [one.value for one in found] == [b"committed"]
            assert await read_again(kafka, {(topic, 0): range(4, 9)}) == []
            await producer.abort_transaction()

    asyncio.run(scenario())
