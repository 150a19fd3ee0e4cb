"""Read what lies in compacted topics: the last value of one key, or the last of all."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import murmur2

from stream.adapters.kafka_clients import consumer
from stream.errors import Unavailable

WINDOW = 1_000
POLL_MS = 500


async def last_value(bootstrap: str, topic: str, key: bytes) -> bytes | None:
    """Return the newest value of a key, None where there is none or it is null.

    Only the key's partition is read, from its end backwards.

    Raises:
        Unavailable: Kafka did not answer, or the topic does not exist.
    """
    async with consumer(bootstrap) as reader:
        partitions = await _partitions(reader, topic)
        partition = partitions[partition_of(key, len(partitions))]
        reader.assign([partition])
        first = (await reader.beginning_offsets([partition]))[partition]
        end = (await reader.end_offsets([partition]))[partition]
        while end > first:
            start = max(first, end - WINDOW)
            found = [value for at, value in await _window(reader, partition, start, end) if at == key]
            if found:
                return found[-1]
            end = start
    return None


async def last_values(bootstrap: str, topic: str) -> dict[bytes, bytes]:
    """Return the newest value of every key that has one. Raises as `last_value`."""
    found: dict[bytes, bytes] = {}
    async with consumer(bootstrap) as reader:
        for partition in await _partitions(reader, topic):
            reader.assign([partition])
            first = (await reader.beginning_offsets([partition]))[partition]
            end = (await reader.end_offsets([partition]))[partition]
            for key, value in await _window(reader, partition, first, end):
                if key is not None and value is not None:
                    found[key] = value
                elif key is not None:
                    found.pop(key, None)
    return found


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that producers give a key (murmur2, as in the Java client)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


async def _partitions(reader: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    if topic not in await reader.topics():
        raise Unavailable(f"there is no topic {topic}: `streamrec topics create` makes it")
    return [TopicPartition(topic, number) for number in sorted(reader.partitions_for_topic(topic))]


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
