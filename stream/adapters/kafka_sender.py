"""Send many messages through one producer, with a bounded number unacknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer

from stream.config import Topics
from stream.core.events import ClickMessage, ItemMessage, SearchMessage

MAX_IN_FLIGHT = 2_000

_encoder = msgspec.json.Encoder()


class Sent(NamedTuple):
    """Where an acknowledged message lies, and the broker's append time in epoch ms."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class Sender:
    """Send messages of the contract with their keys.

    Args:
        producer: started.
        topics: the names of the topics.

    `acknowledged` counts, and everything sent before `flush` returned is acknowledged.
    """

    def __init__(self, producer: AIOKafkaProducer, topics: Topics) -> None:
        self._producer = producer
        self._topics = topics
        self._in_flight: deque[asyncio.Future[object]] = deque()
        self.acknowledged = 0

    async def send(self, message: ClickMessage | SearchMessage | ItemMessage) -> None:
        """Send one; waits for the broker only while too many are unacknowledged.

        Raises:
            aiokafka.errors.KafkaError: this or an earlier message was not taken.
        """
        await self.send_raw(*_place(message, self._topics), _encoder.encode(message))

    async def send_raw(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """Send bytes as they are. Raises as `send`."""
        self._in_flight.append(await self._producer.send(topic, value, key=key))
        while len(self._in_flight) > MAX_IN_FLIGHT or (self._in_flight and self._in_flight[0].done()):
            await self._settle_oldest()

    async def send_and_wait(self, message: ClickMessage | SearchMessage | ItemMessage) -> Sent:
        """Send one and wait until the broker has it. Raises as `send`."""
        topic, key = _place(message, self._topics)
        record = await self._producer.send_and_wait(topic, _encoder.encode(message), key=key)
        self.acknowledged += 1
        return Sent(topic, record.partition, record.offset, record.timestamp)

    async def flush(self) -> None:
        """Wait until all that was sent is acknowledged. Raises as `send`."""
        while self._in_flight:
            await self._settle_oldest()

    async def _settle_oldest(self) -> None:
        await self._in_flight.popleft()
        self.acknowledged += 1


def _place(message: ClickMessage | SearchMessage | ItemMessage, topics: Topics) -> tuple[str, bytes]:
    """The topic and the key of a message."""
    if isinstance(message, ItemMessage):
        return topics.items, message.item_id.encode()
    topic = topics.clicks if isinstance(message, ClickMessage) else topics.searches
    return topic, message.user_id.encode()
