"""Read the shoppers' events that the workers have done, as far as the topics still have them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from aiokafka.structs import ConsumerRecord

from stream.adapters.kafka_offsets import read_logs
from stream.adapters.kafka_reading import partitions, records_between
from stream.config import Config
from stream.core.events import Source
from stream.ports import RawMessage


class Done(NamedTuple):
    """Some messages, how far the reading has come of how many, and how many the topics have no longer."""

    messages: list[RawMessage]
    done: int
    total: int
    gone: int


async def events_done(config: Config, user_id: str | None = None) -> AsyncIterator[Done]:
    """Give the messages of clicks and searches before the workers' committed offsets, batch by batch.

    Args:
        user_id: only the partitions of this shopper are read.

    Raises:
        Unavailable: Kafka did not answer, or a topic does not exist.
    """
    key = None if user_id is None else user_id.encode()
    topics = config.topics.clicks, config.topics.searches
    before = total = gone = 0
    bounds = {}
    for topic in topics:
        async with partitions(config.kafka, topic, key) as (_, assigned):
            places = [(one.topic, one.partition) for one in assigned]
        logs = await read_logs(config.kafka, config.kafka.group, places)
        for place, log in logs.items():
            bounds[place] = log.first, max(log.first, min(log.end, log.committed or 0))
            total += bounds[place][1] - log.first
            gone += min(log.first, log.committed or 0)
    for topic in topics:
        async with partitions(config.kafka, topic, key) as (reader, assigned):
            of_topic = {one: bounds[one.topic, one.partition] for one in assigned}
            starts = {one: start for one, (start, _) in of_topic.items()}
            ends = {one: end for one, (_, end) in of_topic.items()}
            async for records, done in records_between(reader, starts, ends):
                yield Done([_message(record) for record in records], before + done, total, gone)
            before += sum(end - start for start, end in of_topic.values())


def _message(record: ConsumerRecord) -> RawMessage:
    source = Source(record.topic, record.partition, record.offset, record.timestamp)
    return RawMessage(source, record.key, record.value)
