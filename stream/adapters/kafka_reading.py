"""Read what lies in compacted topics: the last value of one key, or the last of all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Generic, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import murmur2
from aiokafka.structs import ConsumerRecord

from stream.adapters.kafka_clients import consumer
from stream.config import Kafka

WINDOW = 1_000
POLL_MS = 500

T = TypeVar("T")


async def last_value(kafka: Kafka, topic: str, key: bytes) -> bytes | None:
    """Return the newest value of a key, None where there is none or it is null.

    Only the key's partition is read, from its end backwards.

    Raises:
        Unavailable: Kafka did not answer, or the topic does not exist.
    """
    async with partitions(kafka, topic, key) as (reader, [partition]):
        first, end = await _bounds(reader, partition)
        while end > first:
            start = max(first, end - WINDOW)
            found = [value for at, value in await _window(reader, partition, start, end) if at == key]
            if found:
                return found[-1]
            end = start
    return None


async def last_values(kafka: Kafka, topic: str) -> dict[bytes, bytes]:
    """Return the newest value of every key that has one. Raises as `last_value`."""
    found: dict[bytes, bytes] = {}
    async with partitions(kafka, topic) as (reader, all_of_it):
        for partition in all_of_it:
            first, end = await _bounds(reader, partition)
            for key, value in await _window(reader, partition, first, end):
                if key is not None and value is not None:
                    found[key] = value
                elif key is not None:
                    found.pop(key, None)
    return found


async def values_beside(kafka: Kafka, topic: str, key: bytes, prefix: bytes) -> dict[bytes, bytes]:
    """Return the newest values of a key, and of those in its partition that begin with a prefix.

    Raises as `last_value`.
    """
    found: dict[bytes, bytes] = {}
    async with partitions(kafka, topic, key) as (reader, [partition]):
        first, end = await _bounds(reader, partition)
        for at, value in await _window(reader, partition, first, end):
            if at is not None and (at == key or at.startswith(prefix)):
                found.pop(at, None)
                found.update({} if value is None else {at: value})
    return found


async def records_of(kafka: Kafka, topic: str, key: bytes) -> list[ConsumerRecord]:
    """Return the records of a key that lie in a topic now, oldest first; all of its partition is read.

    Raises as `last_value`.
    """
    async with partitions(kafka, topic, key) as (reader, [partition]):
        first, end = await _bounds(reader, partition)
        found: list[ConsumerRecord] = []
        async for records, _ in records_between(reader, {partition: first}, {partition: end}):
            found += [record for record in records if record.key == key]
    return found


async def newest_values(kafka: Kafka, topic: str, limit: int) -> AsyncIterator[dict[bytes, bytes]]:
    """Give, partition by partition, the newest values by key among the last messages, null ones left out.

    Args:
        limit: most messages that are read, in equal shares of the partitions.

    Raises:
        Unavailable: as `last_value`.
    """
    async with partitions(kafka, topic) as (reader, all_of_it):
        for partition in all_of_it:
            first, end = await _bounds(reader, partition)
            start = max(first, end - limit // len(all_of_it))
            found = {key: value for key, value in await _window(reader, partition, start, end) if key}
            yield {key: value for key, value in found.items() if value is not None}


@asynccontextmanager
async def partitions(
    kafka: Kafka, topic: str, key: bytes | None = None, *, at_end: bool = False
) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    """A consumer that stands at the beginning, or the end, of a topic's partitions, or of a key's only.

    Its positions are known when it is given: one that is still asked for would undo a later seek.

    Raises:
        Unavailable: Kafka did not answer, or the topic does not exist.
    """
    reset = "latest" if at_end else "earliest"
    async with consumer(kafka, topic, auto_offset_reset=reset) as reader:
        assigned = sorted(reader.assignment())
        if key is not None:
            assigned = [assigned[partition_of(key, len(assigned))]]
            reader.unsubscribe()
            reader.assign(assigned)
        for partition in assigned:
            await reader.position(partition)
        yield reader, assigned


class Read(NamedTuple, Generic[T]):
    """Some records, how far the reading has come of how many messages, and how many could not be decoded."""

    records: list[T]
    done: int
    total: int
    unreadable: int


async def decoded_since(
    kafka: Kafka,
    topic: str,
    decode: Callable[[ConsumerRecord], T],
    unreadable: type[Exception] | tuple[type[Exception], ...],
    since_ms: int | None = None,
) -> AsyncIterator[Read[T]]:
    """Give what lies in a topic now, of all of it or of what was appended from a time on, batch by batch.

    Args:
        unreadable: what `decode` raises for a record that it cannot read; such are counted.

    Raises:
        Unavailable: as `last_value`.
    """
    async with partitions(kafka, topic) as (reader, assigned):
        ends = await reader.end_offsets(assigned)
        starts = await reader.beginning_offsets(assigned)
        if since_ms is not None:
            found = await reader.offsets_for_times(dict.fromkeys(assigned, since_ms))
            starts = {one: at.offset if (at := found[one]) else ends[one] for one in assigned}
        total = sum(ends[one] - starts[one] for one in assigned)
        async for records, done in records_between(reader, starts, ends):
            decoded, failed = [], 0
            for record in records:
                try:
                    decoded.append(decode(record))
                except unreadable:
                    failed += 1
            yield Read(decoded, done, total, failed)


async def records_between(
    reader: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> AsyncIterator[tuple[list[ConsumerRecord], int]]:
    """Give the records of partitions from one offset up to before another, and how many were passed."""
    for partition, start in starts.items():
        reader.seek(partition, start)
    open_ones = {one for one in starts if starts[one] < ends[one]}
    while open_ones:
        batches = await reader.getmany(*open_ones, timeout_ms=POLL_MS)
        records = [record for one, some in batches.items() for record in some if record.offset < ends[one]]
        # Compaction leaves gaps, so the position tells the end and not the number of records.
        at = {one: min(await reader.position(one), ends[one]) for one in starts}
        open_ones = {one for one in open_ones if at[one] < ends[one]}
        yield records, sum(at[one] - starts[one] for one in starts)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that producers give a key (murmur2, as in the Java client)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


async def _bounds(reader: AIOKafkaConsumer, partition: TopicPartition) -> tuple[int, int]:
    """The first offset of a partition, and the one that its next message will have."""
    first = (await reader.beginning_offsets([partition]))[partition]
    return first, (await reader.end_offsets([partition]))[partition]


async def _window(
    reader: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
) -> list[tuple[bytes | None, bytes | None]]:
    """The messages of a partition from `start` up to before `end`, in order."""
    reader.seek(partition, start)
    messages: list[tuple[bytes | None, bytes | None]] = []
    # Compaction leaves gaps, so the position tells the end and not the number of messages.
    while await reader.position(partition) < end:
        for batch in (await reader.getmany(partition, timeout_ms=POLL_MS)).values():
            messages += [(message.key, message.value) for message in batch if message.offset < end]
    return messages
