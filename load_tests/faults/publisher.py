"""The shop's side: publishes what shoppers do and keeps what the broker acknowledged."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from faults.shoppers import Message, Shoppers
from stream.config import Config

IN_FLIGHT = 500
"""Most messages that wait for the broker; beyond it the shop waits too."""


class Acknowledged(NamedTuple):
    """Where the broker says that it put a message."""

    topic: str
    partition: int
    offset: int
    message: Message


class ShopPublisher:
    """Publish at a rate until told to stop. What is not acknowledged may have arrived all the same.

    `ahead_ms` is how fast the shop's clock is, less than 0 where it is slow.
    """

    def __init__(self, config: Config, shoppers: Shoppers, events_a_second: float) -> None:
        self._topics = {"clicks": config.topics.clicks, "searches": config.topics.searches}
        self._bootstrap = config.kafka.bootstrap
        self._shoppers = shoppers
        self._pause_s = 1.0 / events_a_second
        self._open = asyncio.Event()
        self._open.set()
        self._under_way: set[asyncio.Task[None]] = set()
        self.ahead_ms = 0
        self.acknowledged: list[Acknowledged] = []
        self.unanswered = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set, then wait for the last answers."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True, request_timeout_ms=30_000
        )
        await producer.start()
        room = asyncio.Semaphore(IN_FLIGHT)
        try:
            async with asyncio.TaskGroup() as sending:
                next_at = time.monotonic()
                while not stop.is_set():
                    await room.acquire()
                    await self._open.wait()
                    message = self._shoppers.act(time.time_ns() // 1_000_000 + self.ahead_ms)
                    task = sending.create_task(self._send(producer, message, room))
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)
                    next_at = max(next_at + self._pause_s, time.monotonic() - 1.0)
                    await asyncio.sleep(max(0.0, next_at - time.monotonic()))
        finally:
            await producer.stop()

    async def close(self) -> None:
        """Publish nothing more for now, and wait for the answers to what was sent."""
        self._open.clear()
        if self._under_way:
            await asyncio.wait(self._under_way)

    def reopen(self) -> None:
        """Go on publishing."""
        self._open.set()

    async def _send(self, producer: AIOKafkaProducer, message: Message, room: asyncio.Semaphore) -> None:
        topic = self._topics[message.topic]
        try:
            put = await producer.send_and_wait(topic, message.value, key=message.key)
            self.acknowledged.append(Acknowledged(topic, put.partition, put.offset, message))
        except KafkaError:
            self.unanswered += 1
        finally:
            room.release()
