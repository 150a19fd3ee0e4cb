"""Read the topic `dead-letters`, and put messages back where they came from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from enum import StrEnum

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import ConsumerRecord

from stream.adapters import letter_record
from stream.adapters.kafka_clients import producer
from stream.adapters.kafka_reading import Read, decoded_since, partition_of, partitions, records_between
from stream.adapters.kafka_topics import DEAD_LETTER_MAX_BYTES
from stream.adapters.letter_record import Letter
from stream.config import Config
from stream.errors import InvalidMessage


class Outcome(StrEnum):
    """What became of a letter that was to be put back."""

    PUT_BACK = "put back"
    CUT = "too large: not all of it was kept"
    NOT_OURS = "its topic is none that workers read"
    SUPERSEDED = "superseded: the product was published again since"
    REFUSED = "the broker takes no message of its size"


async def read_letters(config: Config, since_ms: int | None = None) -> AsyncIterator[Read[Letter]]:
    """Give the letters that lie there now, batch by batch; those set aside from a time on where one is given.

    Raises:
        Unavailable: Kafka did not answer, or the topic does not exist.
    """
    async for read in decoded_since(
        config.kafka, config.topics.dead_letters, _letter, InvalidMessage, since_ms
    ):
        yield read


async def read_letter(config: Config, partition: int, offset: int) -> Letter | None:
    """Read one letter by its place; None where nothing lies there. Raises as `read_letters`."""
    there = TopicPartition(config.topics.dead_letters, partition)
    async with partitions(config.kafka, there.topic) as (reader, assigned):
        if there not in assigned:
            return None
        end = (await reader.end_offsets([there]))[there]
        first = (await reader.beginning_offsets([there]))[there]
        if not first <= offset < end:
            return None
        async for records, _ in records_between(reader, {there: offset}, {there: offset + 1}):
            if records:
                return _letter(records[0])
    return None


async def put_back(config: Config, letters: Sequence[Letter], *, dry_run: bool) -> AsyncIterator[Outcome]:
    """Put messages back on their topics, one after another; give what became of each.

    A message goes to the partition that it lay in, with its key, value and headers, and a mark that says
    which letter it comes from. An old message about a product never takes the place of a newer one.

    Args:
        dry_run: say only what would become of them.

    Raises:
        Unavailable: Kafka did not answer, or the topic does not exist.
    """
    topics = config.topics
    read_by_workers = (topics.clicks, topics.searches, topics.items, topics.item_signals)
    superseded = await _superseded(config, letters)
    async with producer(config.kafka, max_request_size=DEAD_LETTER_MAX_BYTES) as client:
        for one in letters:
            message = one.letter.message
            if message.source.topic not in read_by_workers:
                yield Outcome.NOT_OURS
            elif one.cut:
                yield Outcome.CUT
            elif one.place in superseded:
                yield Outcome.SUPERSEDED
            else:
                yield Outcome.PUT_BACK if dry_run else await _send(client, one)


async def _send(client: AIOKafkaProducer, one: Letter) -> Outcome:
    (topic, partition, _, _), key, value, _ = one.letter.message
    partitions = len(await client.partitions_for(topic))
    if partition >= partitions:  # the topic was made anew, with fewer
        partition = partition_of(key or b"", partitions)
    try:
        await client.send_and_wait(
            topic, value, key=key, partition=partition, headers=list(letter_record.replayed(one))
        )
    except MessageSizeTooLargeError:
        return Outcome.REFUSED
    return Outcome.PUT_BACK


async def _superseded(config: Config, letters: Sequence[Letter]) -> set[str]:
    """The places of letters about products of which a newer message lies on their topic."""
    topic = config.topics.items
    about = [one for one in letters if one.letter.message.source.topic == topic]
    if not about:
        return set()
    newest: dict[tuple[int, bytes | None], int] = {}
    async with partitions(config.kafka, topic) as (reader, assigned):
        ends = await reader.end_offsets(assigned)
        starts = await reader.beginning_offsets(assigned)
        for one in assigned:
            oldest = [
                at.offset + 1
                for at in (two.letter.message.source for two in about)
                if at.partition == one.partition
            ]
            starts[one] = max(starts[one], min(oldest, default=ends[one]))
        async for records, _ in records_between(reader, starts, ends):
            newest |= {(record.partition, record.key): record.offset for record in records}
    return {
        one.place
        for one in about
        if newest.get((one.letter.message.source.partition, one.letter.message.key), -1)
        > one.letter.message.source.offset
    }


def _letter(record: ConsumerRecord) -> Letter:
    return letter_record.decode(
        record.partition, record.offset, record.key, record.value, record.headers, record.timestamp
    )
