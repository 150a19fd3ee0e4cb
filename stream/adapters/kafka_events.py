"""Read again what lies in topics: the events that workers have done, or what a consumer passed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from stream.adapters.kafka_clients import consumer
from stream.adapters.kafka_offsets import read_logs
from stream.adapters.kafka_reading import partitions, records_between
from stream.config import Config, Kafka
from stream.core.events import Source
from stream.errors import Unavailable
from stream.ports import Place, RawMessage

AGAIN_S = 10.0
"""How long reading again may take before it is begun anew."""


class Done(NamedTuple):
    """Some messages, how far the reading has come of how many, and how many the topics have no longer."""

    messages: list[RawMessage]
    done: int
    total: int
    gone: int


async def events_done(config: Config, user_id: str | None = None) -> AsyncIterator[Done]:
    """Give the messages of clicks and searches before the workers' committed offsets, batch by batch.

    Args:
        user_id: only this shopper's. All partitions are read, since publishers differ in which one they give
            a key: librdkafka's do not use murmur2.

    Raises:
        Unavailable: Kafka did not answer, or a topic does not exist.
    """
    key = None if user_id is None else user_id.encode()
    topics = config.topics.clicks, config.topics.searches
    before = total = gone = 0
    bounds = {}
    for topic in topics:
        async with partitions(config.kafka, topic) as (_, assigned):
            places = [(one.topic, one.partition) for one in assigned]
        logs = await read_logs(config.kafka, config.kafka.group, places)
        for place, log in logs.items():
            bounds[place] = log.first, max(log.first, min(log.end, log.committed or 0))
            total += bounds[place][1] - log.first
            gone += min(log.first, log.committed or 0)
    for topic in topics:
        async with partitions(config.kafka, topic) as (reader, assigned):
            of_topic = {one: bounds[one.topic, one.partition] for one in assigned}
            starts = {one: start for one, (start, _) in of_topic.items()}
            last = await reader.end_offsets(assigned)
            ends = {one: max(start, min(last[one], end)) for one, (start, end) in of_topic.items()}
            async for records, done in records_between(reader, starts, ends):
                wanted = (record for record in records if key is None or record.key == key)
                yield Done([message_of(record) for record in wanted], before + done, total, gone)
            before += sum(end - start for start, end in of_topic.values())


async def read_again(kafka: Kafka, offsets: Mapping[Place, range]) -> list[RawMessage]:
    """Give what lies in partitions at some offsets, as far as there is something and it is not gone.

    Raises:
        Unavailable: Kafka did not answer.
    """
    try:
        async with asyncio.timeout(AGAIN_S), consumer(kafka) as reader:
            wanted = {TopicPartition(*place): some for place, some in offsets.items()}
            reader.assign(list(wanted))
            first = await reader.beginning_offsets(list(wanted))
            for one in wanted:
                await reader.position(one)  # a position that is still asked for would undo a seek
            starts = {one: max(first[one], some.start) for one, some in wanted.items()}
            last = await reader.end_offsets(list(wanted))
            ends = {one: min(last[one], some.stop) for one, some in wanted.items()}
            return [
                message_of(record)
                async for records, _ in records_between(reader, starts, ends)
                for record in records
            ]
    except (KafkaError, TimeoutError) as error:
        raise Unavailable(f"Kafka did not give again what was passed over: {error!r}") from error


def message_of(record: ConsumerRecord) -> RawMessage:
    """A record as use cases take it."""
    source = Source(record.topic, record.partition, record.offset, record.timestamp)
    headers = tuple((name, value or b"") for name, value in record.headers or ())
    return RawMessage(source, record.key, record.value, headers)
