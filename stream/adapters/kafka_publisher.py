"""What the engine writes to topics, through one aiokafka producer; every method awaits the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from stream.adapters import letter_record, vector_record
from stream.adapters.kafka_clients import connection, why_away
from stream.adapters.kafka_reading import partition_of
from stream.config import Config
from stream.core import list_log
from stream.core.events import Attribution, RecommendationList, list_key
from stream.core.list_log import LoggedList
from stream.core.signals import Increment, encode_increments
from stream.errors import PublishUnavailable
from stream.ports import DeadLetter, ItemVector
from stream.telemetry.tracing import NOT_TRACED, Traces

_encoder = msgspec.json.Encoder()

DEAD_LETTER_KEPT_BYTES = 2_000_000
"""Of the value of a message; of a larger one its beginning is kept."""
DEAD_LETTER_BYTES = 2_190_000
"""With key, headers and reason; the broker takes 2,200,000 on `dead-letters`."""
LEAST_KEPT_BYTES = 1_000
"""What is kept where the broker takes no more."""


class _Message(NamedTuple):
    """What is written; without a partition the key chooses one."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] | None = None
    partition: int | None = None


class KafkaPublisher:
    """`Publisher` on Kafka.

    Args:
        config: where the brokers are, and the names of the topics.
        traces: says what the headers of a list carry.

    `start` and `stop` bracket its use. Acknowledged means by all in-sync replicas.
    """

    def __init__(self, config: Config, traces: Traces = NOT_TRACED) -> None:
        self._topics = config.topics
        self._traces = traces
        self._kafka = config.kafka
        self._producer = AIOKafkaProducer(
            **connection(config.kafka),
            acks="all",
            linger_ms=0,
            max_request_size=DEAD_LETTER_BYTES,
            request_timeout_ms=int(config.kafka.session_timeout_s * 1000),
            retry_backoff_ms=100,
        )

    async def start(self) -> None:
        """Connect to the broker.

        Raises:
            PublishUnavailable: it did not answer.
        """
        try:
            await self._producer.start()
        except KafkaError as error:
            raise PublishUnavailable(await why_away(self._kafka)) from error

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        await self._producer.stop()

    async def publish_lists(self, lists: Sequence[RecommendationList]) -> None:
        """Publish lists to `recommendations`, keyed by user, and reordered results by user and placement.

        All of a shopper's lists lie in one partition, so that they are read in the order of their sequences.
        """
        if not lists:
            return
        topic = self._topics.recommendations
        partitions = await self._partitions(topic)
        await self._send_all(
            topic,
            [
                _Message(
                    list_key(made),
                    _encoder.encode(made),
                    headers=list(self._traces.of_list(made)),
                    partition=partition_of(made.user_id.encode(), partitions),
                )
                for made in lists
            ],
        )

    async def publish_signals(self, increments: Mapping[str, Sequence[Increment]]) -> None:
        """Publish increments to `item-signals`: those of the items that share a partition go together.

        The key is one of these items, so that whoever writes a message again meets the same partition.
        """
        if not increments:
            return
        topic = self._topics.item_signals
        partitions = await self._partitions(topic)
        together: dict[int, dict[str, Sequence[Increment]]] = {}
        for item_id, made in increments.items():
            together.setdefault(partition_of(item_id.encode(), partitions), {})[item_id] = made
        await self._send_all(
            topic,
            [
                _Message(first.encode(), value)
                for some in together.values()
                for first, value in encode_increments(some)
            ],
        )

    async def publish_attributions(self, told: Sequence[Attribution]) -> None:
        """Publish what came of lists to `attributions`, keyed by user."""
        await self._send_all(
            self._topics.attributions,
            [_Message(record.user_id.encode(), _encoder.encode(record)) for record in told],
        )

    async def publish_list_log(self, logged: Sequence[LoggedList]) -> None:
        """Publish what lists were ranked by to `list-log`, keyed by user."""
        await self._send_all(
            self._topics.list_log,
            [_Message(one.user_id.encode(), list_log.encode(one)) for one in logged],
        )

    async def publish_vectors(self, vectors: Sequence[ItemVector], removed: Sequence[str]) -> None:
        """Publish encoded items, and null for the removed ones, to `item-vectors`, keyed by item."""
        await self._send_all(
            self._topics.item_vectors,
            [_Message(made.item.item_id.encode(), vector_record.encode(made)) for made in vectors]
            + [_Message(item_id.encode(), None) for item_id in removed],
        )

    async def publish_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Publish the original key, bytes and headers to `dead-letters`, the reason in the headers.

        Where the broker takes no message of that size, less and less of it is kept.
        """
        kept_bytes = DEAD_LETTER_KEPT_BYTES
        while True:
            try:
                return await self._send_letters(letters, kept_bytes)
            except MessageSizeTooLargeError:
                if len(letters) == 1:
                    if kept_bytes <= LEAST_KEPT_BYTES:
                        raise
                    kept_bytes //= 4
                    continue
            for one in letters:
                await self.publish_dead_letters([one])
            return None

    async def _send_letters(self, letters: Sequence[DeadLetter], kept_bytes: int) -> None:
        failed_at = datetime.now(UTC)
        await self._send_all(
            self._topics.dead_letters,
            [_Message(*letter_record.encode(one, failed_at, kept_bytes)) for one in letters],
        )

    async def _partitions(self, topic: str) -> int:
        try:
            return len(await self._producer.partitions_for(topic))
        except KafkaError as error:
            raise PublishUnavailable(f"Kafka did not say what partitions {topic} has: {error!r}") from error

    async def _send_all(self, topic: str, messages: Sequence[_Message]) -> None:
        if not messages:
            return
        try:
            sent = [
                await self._producer.send(
                    topic, value=one.value, key=one.key, partition=one.partition, headers=one.headers
                )
                for one in messages
            ]
            await asyncio.gather(*sent)
        except MessageSizeTooLargeError:
            raise
        except KafkaError as error:
            raise PublishUnavailable(
                f"Kafka did not acknowledge {len(messages)} messages for {topic}: {error!r}"
            ) from error
