"""Follow a compacted topic whole, from its beginning, outside of any consumer group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.adapters.kafka_clients import ISOLATION, connection, stopped
from stream.adapters.kafka_standing import standings
from stream.config import Kafka
from stream.errors import place_of
from stream.process.progress import Work

log = logging.getLogger(__name__)

Changes = Sequence[tuple[bytes | None, bytes | None]]
RETRY_S = 1.0
MAX_RECORDS = 200


class TopicFollower:
    """Give every message of a topic to `apply`, in order of each partition, for ever.

    Args:
        kafka: where the brokers are, and who we are to them.
        topic: what to follow.
        apply: takes (key, value) pairs in order; given some again where one of them makes it fail.
        skipped: told of each message at which `apply` fails.

    `caught_up` is set once all that lay in the topic when following began has been applied. After an
    outage of the broker following goes on where it was.
    """

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        apply: Callable[[Changes], None],
        skipped: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._connection = connection(kafka)
        self._topic = topic
        self._apply = apply
        self._positions: dict[TopicPartition, int] = {}
        self._skipped = skipped
        self._consumer: AIOKafkaConsumer | None = None
        self._tries = 0
        self._waiting_for = ""
        self.caught_up = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled; a broker that is away is waited for."""
        while True:
            try:
                await self._until_interrupted()
            except (KafkaError, OSError) as error:
                log.warning("following %s is interrupted: %r", self._topic, error)
                self._tries += 1
                self._waiting_for = str(error) or type(error).__name__
                await asyncio.sleep(RETRY_S)

    def work(self) -> Work:
        """What there is to follow and how far that is, by partition."""
        return Work(f"following {self._topic}", standings(self._consumer), self._tries, self._waiting_for)

    async def read_once(self) -> None:
        """Follow until all that lay in the topic has been applied."""
        following = asyncio.ensure_future(self.run())
        try:
            await self.caught_up.wait()
        finally:
            following.cancel()
            await asyncio.wait({following})

    async def _until_interrupted(self) -> None:
        consumer = AIOKafkaConsumer(
            self._topic,
            **self._connection,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=ISOLATION,
            fetch_max_wait_ms=500,
        )
        try:
            await consumer.start()
            self._consumer, self._waiting_for = consumer, ""
            await self._follow(consumer)
        finally:
            self._consumer = None
            await stopped(consumer.stop)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        partitions = consumer.assignment()
        if not partitions:
            raise KafkaError(f"topic {self._topic} does not exist: `streamrec topics create` makes it")
        for partition in partitions & self._positions.keys():
            consumer.seek(partition, self._positions[partition])
        ends = await consumer.end_offsets(partitions)
        while True:
            if not self.caught_up.is_set():
                at = [await consumer.position(partition) >= ends[partition] for partition in partitions]
                if all(at):
                    self.caught_up.set()
            batches = await consumer.getmany(timeout_ms=200, max_records=MAX_RECORDS)
            for partition, messages in batches.items():
                self._take([(message.key, message.value) for message in messages])
                self._positions[partition] = messages[-1].offset + 1
            await asyncio.sleep(0)

    def _take(self, changes: Changes) -> None:
        """Apply changes; one that fails is found by halving and skipped, so that following goes on."""
        try:
            self._apply(changes)
        except Exception as error:
            if len(changes) > 1:
                middle = len(changes) // 2
                self._take(changes[:middle])
                self._take(changes[middle:])
            else:
                self._skipped(self._topic)
                log.error(
                    "a message of %s is skipped: %s at %s", self._topic, type(error).__name__, place_of(error)
                )
