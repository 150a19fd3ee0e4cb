"""One process of load: publishes events when they are due, reads the lists of its shoppers, and joins them.

It reads an `Order` and a `Start` as lines of JSON on stdin, and tells `Ready`, `Progress`, `Done` or `Failed`
on stdout. Shoppers belong to processes by the partition that their lists lie in, so that no process reads
what is another's, and no consumer group is needed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from stream.adapters.kafka_clients import consumer, producer
from stream.adapters.kafka_reading import partition_of
from stream.config import Config, load_config
from stream.errors import StreamrecError
from traffic.arrivals import Arrival, arrivals
from traffic.figures import COARSE, Histogram
from traffic.joining import Answer, Joining, ListHead, Place
from traffic.profiles import PROFILES
from traffic.shoppers import Product, Shoppers

TOLD_EVERY_S = 0.5
POLL_MS = 100
WAIT_S = 0.02
BREATHE_S = 0.005
"""How long it goes on sending, when it is behind, before it lets lists be read."""
CLOCKS = {0: "CreateTime", 1: "LogAppendTime"}

_decoder = msgspec.json.Decoder(ListHead)


class Order(msgspec.Struct, frozen=True, tag=True):
    """What one process is to do. `products` names a file with a JSON array of products."""

    run: str
    profile: str
    rate: float
    seconds: float
    warm_up_s: float
    patience_s: float
    interval_s: float
    seed: int
    shoppers: int
    shopper_skew: float
    item_skew: float
    products: str
    index: int
    processes: int


class Start(msgspec.Struct, frozen=True, tag=True):
    """When the warm-up is over, epoch seconds."""

    at_s: float


class Ready(msgspec.Struct, frozen=True, tag=True):
    """All connections stand."""


class Progress(msgspec.Struct, frozen=True, tag=True):
    """How far it is; `recent` are the latencies since the last time."""

    sent: int
    answered: int
    waiting: int
    lists: int
    recent: str


class Part(msgspec.Struct, frozen=True):
    """One interval: events by when they were meant to be sent, lists by when they were read."""

    sent: int
    lists: int
    degraded: int
    unanswered: int
    latency: str
    freshness: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """What came of it: counts of the time after the warm-up, and histograms as text."""

    counts: dict[str, int]
    parts: list[Part]
    latency: str
    freshness: str
    late: str
    acknowledge: str
    clocks: list[str]
    acted: int
    """Shoppers that did anything, in the warm-up too."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Why it cannot go on."""

    message: str


Told = Ready | Progress | Done | Failed


class _Counted:
    """One interval as it is counted."""

    def __init__(self) -> None:
        self.sent = self.lists = self.degraded = self.unanswered = 0
        self.latency, self.freshness = Histogram(COARSE), Histogram(COARSE)

    def part(self) -> Part:
        texts = (self.latency.text(), self.freshness.text())
        return Part(self.sent, self.lists, self.degraded, self.unanswered, *texts)


class Generator:
    """The work of one process, on clients that stand.

    Args:
        started_s: when the warm-up is over, by the clock of the running event loop.
    """

    def __init__(
        self, order: Order, config: Config, shoppers: Shoppers, mine: list[bool], partitions: int
    ) -> None:
        self._order = order
        self._topics = config.topics
        self._shoppers = shoppers
        self._mine = mine
        self._partitions = partitions
        self._joining = Joining(self._answered)
        self._intervals = [_Counted() for _ in range(max(1, -int(-order.seconds // order.interval_s)))]
        self._latency, self._freshness = Histogram(), Histogram()
        self._late, self._acknowledge = Histogram(), Histogram()
        self._recent = Histogram(COARSE)
        self._counts: Counter[str] = Counter()
        self._clocks: set[str] = set()
        self._acted: set[int] = set()
        self._sent = self._answers = 0

    async def run(self, client: AIOKafkaProducer, reader: AIOKafkaConsumer, started_s: float) -> Done:
        """Send everything, wait for the last lists, and sum up."""
        self._started_s = started_s
        reading = asyncio.create_task(self._read(reader))
        telling = asyncio.create_task(self._tell())
        try:
            await self._send(client)
            await client.flush()
            await self._wait_for_lists(reading)
        finally:
            for task in (reading, telling):
                task.cancel()
            ended = await asyncio.gather(reading, telling, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        return self._concluded(asyncio.get_running_loop().time())

    async def _send(self, client: AIOKafkaProducer) -> None:
        order, loop = self._order, asyncio.get_running_loop()
        breathed_s = loop.time()
        stream = arrivals(
            PROFILES[order.profile],
            order.rate,
            order.seconds,
            seed=order.seed,
            shoppers=order.shoppers,
            items=self._shoppers.products,
            warm_up_s=order.warm_up_s,
            shopper_skew=order.shopper_skew,
            item_skew=order.item_skew,
        )
        for arrival in stream:
            if not self._is_mine(arrival.shopper):
                continue
            due_s = self._started_s + arrival.at_s
            now_s = loop.time()
            if due_s > now_s or now_s - breathed_s > BREATHE_S:
                await asyncio.sleep(max(0.0, due_s - now_s))
                breathed_s = loop.time()
            await self._send_one(client, arrival, due_s)

    async def _send_one(self, client: AIOKafkaProducer, arrival: Arrival, due_s: float) -> None:
        loop = asyncio.get_running_loop()
        message = self._shoppers.message(arrival, time.time_ns() // 1_000_000)
        topic = self._topics.searches if message.is_search else self._topics.clicks
        self._joining.sent(message.event_id, message.user_id, due_s)
        self._sent += 1
        self._acted.add(arrival.shopper)
        counted = self._interval(due_s)
        sent_s = loop.time()
        if counted is not None:
            counted.sent += 1
            self._counts["sent"] += 1
            self._late.add((sent_s - due_s) * 1_000)
        try:
            future = await client.send(topic, message.value, key=message.user_id.encode())
        except KafkaError:
            self._lose(message.event_id, due_s)
        else:
            future.add_done_callback(partial(self._acknowledged, message.event_id, due_s, sent_s))

    def _acknowledged(
        self, event_id: str, due_s: float, sent_s: float, future: asyncio.Future[RecordMetadata]
    ) -> None:
        if future.cancelled() or future.exception() is not None:
            self._lose(event_id, due_s)
            return
        put = future.result()
        self._clocks.add(f"events: {CLOCKS.get(put.timestamp_type, 'unknown')}")
        if due_s >= self._started_s:
            self._acknowledge.add((asyncio.get_running_loop().time() - sent_s) * 1_000)
        self._joining.acknowledged(event_id, Place(put.topic, put.partition, put.offset, put.timestamp))

    def _lose(self, event_id: str, due_s: float) -> None:
        self._joining.lost(event_id)
        counted = self._interval(due_s)
        if counted is not None:
            counted.unanswered += 1
            self._counts["not_acknowledged"] += 1

    async def _read(self, reader: AIOKafkaConsumer) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batches = await reader.getmany(timeout_ms=POLL_MS)
            read_s = loop.time()
            for records in batches.values():
                for record in records:
                    if record.value is None:
                        continue
                    try:
                        head = _decoder.decode(record.value)
                    except msgspec.DecodeError:
                        self._counts["unreadable_lists"] += 1
                        continue
                    if self._joining.listed(head, record.timestamp, read_s):
                        self._clocks.add(f"lists: {CLOCKS.get(record.timestamp_type, 'unknown')}")
                        if (counted := self._interval(read_s)) is not None:
                            counted.lists += 1
                            counted.degraded += bool(head.degraded)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TOLD_EVERY_S)
            recent, self._recent = self._recent.text(), Histogram(COARSE)
            joining = self._joining
            tell(Progress(self._sent, self._answers, joining.waiting, joining.lists, recent))

    async def _wait_for_lists(self, reading: asyncio.Task[None]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._order.patience_s):
                while self._joining.waiting and not reading.done():  # noqa: ASYNC110 (many may end it)
                    await asyncio.sleep(WAIT_S)

    def _answered(self, answer: Answer) -> None:
        self._answers += 1
        latency_ms = (answer.read_s - answer.intended_s) * 1_000
        self._recent.add(latency_ms)
        counted = self._interval(answer.intended_s)
        if counted is None:
            return
        self._counts["answered"] += 1
        self._counts[answer.how] += 1
        counted.latency.add(latency_ms)
        counted.freshness.add(answer.freshness_ms)
        self._latency.add(latency_ms)
        self._freshness.add(answer.freshness_ms)

    def _concluded(self, ended_s: float) -> Done:
        for intended_s in self._joining.conclude():
            counted = self._interval(intended_s)
            if counted is not None:
                counted.unanswered += 1
                self._counts["unanswered"] += 1
                counted.latency.add((ended_s - intended_s) * 1_000)
                self._latency.add((ended_s - intended_s) * 1_000)
        self._counts["lists_in_all"] = self._joining.lists
        self._counts["lists_repeated"] = self._joining.repeated
        return Done(
            dict(self._counts),
            [counted.part() for counted in self._intervals],
            self._latency.text(),
            self._freshness.text(),
            self._late.text(),
            self._acknowledge.text(),
            sorted(self._clocks),
            len(self._acted),
        )

    def _interval(self, at_s: float) -> _Counted | None:
        """The interval of a time; None before the measuring begins and after its end."""
        at = int((at_s - self._started_s) // self._order.interval_s)
        return self._intervals[at] if 0 <= at < len(self._intervals) else None

    def _is_mine(self, shopper: int) -> bool:
        if shopper < len(self._mine):
            return self._mine[shopper]
        return (
            owner(self._shoppers.name(shopper), self._partitions, self._order.processes) == self._order.index
        )


def owner(user: str, partitions: int, processes: int) -> int:
    """The number of the process that a shopper belongs to."""
    return partition_of(user.encode(), partitions) % processes


def tell(told: Told) -> None:
    """Say something to who started this process."""
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


async def work(order: Order, products: list[Product]) -> None:
    """Connect, say so, wait for the start, and do it. Raises `Unavailable` where Kafka does not answer."""
    config = load_config()
    shoppers = Shoppers(order.run, products)
    topic = config.topics.recommendations
    async with producer(config.kafka, linger_ms=0) as client, consumer(config.kafka) as reader:
        partitions = len(await client.partitions_for(topic))
        for one in (config.topics.clicks, config.topics.searches):
            await client.partitions_for(one)
        count = 0 if PROFILES[order.profile].new_shoppers else order.shoppers
        mine = [owner(shoppers.name(one), partitions, order.processes) == order.index for one in range(count)]
        assigned = [
            TopicPartition(topic, one) for one in range(partitions) if one % order.processes == order.index
        ]
        reader.assign(assigned)
        await reader.seek_to_end(*assigned)
        for one in assigned:
            await reader.position(one)
        tell(Ready())
        line = await asyncio.to_thread(sys.stdin.buffer.readline)
        start = msgspec.json.decode(line, type=Start)
        started_s = asyncio.get_running_loop().time() + start.at_s - time.time()
        tell(await Generator(order, config, shoppers, mine, partitions).run(client, reader, started_s))


def main() -> int:
    """Do what stands on stdin."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # said once, by our own error
    try:
        order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
        products = msgspec.json.decode(Path(order.products).read_bytes(), type=list[Product])
        asyncio.run(work(order, products))
    except (StreamrecError, KafkaError) as error:
        tell(Failed(str(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
