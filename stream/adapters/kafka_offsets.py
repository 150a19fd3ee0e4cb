"""What Kafka knows of partitions: which offsets they hold, and how far a consumer group has committed."""

from __future__ import annotations

from collections.abc import Collection

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from stream.adapters.kafka_clients import admin, consumer
from stream.config import Kafka
from stream.core.marks import Log
from stream.errors import Unavailable
from stream.ports import Place


async def read_logs(kafka: Kafka, group: str, places: Collection[Place]) -> dict[Place, Log]:
    """Read the bounds of partitions, and the offsets of a group with their notes.

    Raises:
        Unavailable: Kafka did not answer, still loads the offsets of the group, or has no such topic.
    """
    wanted = [TopicPartition(*place) for place in places]
    if not wanted:
        return {}
    try:
        async with admin(kafka) as client:
            committed = await client.list_consumer_group_offsets(group, partitions=wanted)
        if unsaid := sum(one not in committed for one in wanted):
            # aiokafka passes over an error about the whole group, such as that its offsets are being loaded
            # after a restart of the broker. Taken for a group that never committed, all would be read again.
            raise Unavailable(f"Kafka does not tell yet how far {group} is in {unsaid} of its partitions")
        # After the group's offsets: whatever it has committed lies before the end that is read now.
        # And the very end: a release that read what is not committed yet may have marked beyond it.
        async with consumer(kafka, isolation_level="read_uncommitted") as reader:
            first = await reader.beginning_offsets(wanted)
            end = await reader.end_offsets(wanted)
    except (KafkaError, TimeoutError) as error:
        raise Unavailable(f"Kafka did not tell how far {group} is: {error!r}") from error
    logs = {}
    for one in wanted:
        at = committed[one]
        is_known = at.offset >= 0
        logs[one.topic, one.partition] = Log(
            first[one], end[one], at.offset if is_known else None, at.metadata or "" if is_known else ""
        )
    return logs
