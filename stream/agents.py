"""Faust: the app, and agents that take whole batches and acknowledge them only when they are done.

An agent hands what arrives to one task that takes all that is waiting, up to a bound: at little load a
message is worked on at once, at much load batches grow by themselves. A batch is tried until it succeeds
(a part that is away means back pressure, not loss). A message that makes the handler fail for a reason of
its own is found by halving the batch, tried `TRIES` times alone, and set aside with the place that failed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import faust
import faust.auth
from faust.tables import TableManager
from faust.types import EventT, StreamT

from stream.adapters.kafka_clients import connection
from stream.adapters.kafka_standing import standings
from stream.config import Config, Kafka
from stream.core.events import ErrorCode, Source
from stream.errors import Unavailable
from stream.ports import DeadLetter, Publisher, RawMessage
from stream.privacy.pseudonyms import about, pseudonym, told
from stream.process.progress import At, Standing, Work
from stream.telemetry.metrics import Telemetry

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
METADATA_MS = 15_000
"""How often a worker looks which topics there are: one that was deleted and made again is read after this."""
TRIES = 3
"""How often a message that makes the handler fail is tried alone before it is set aside."""
OUTAGES = (Unavailable, ConnectionError, TimeoutError)
"""A part is away: waited for, never taken for a fault of the message."""

T = TypeVar("T")
R = TypeVar("R")
Handler = Callable[[Sequence[RawMessage]], Awaitable[None]]


def build_app(config: Config, group: str) -> faust.App:
    """Make a Faust app for a consumer group; to be called in the running event loop.

    It declares no topics, keeps no tables and starts no web server.
    """
    session_timeout_s = float(config.kafka.session_timeout_s)
    return faust.App(
        group,
        broker=[f"kafka://{address.strip()}" for address in config.kafka.bootstrap.split(",")],
        broker_credentials=_credentials(config.kafka),
        key_serializer="raw",
        value_serializer="raw",
        autodiscover=False,
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=session_timeout_s / 5,
        broker_request_timeout=max(40.0, session_timeout_s),
        broker_commit_interval=1.0,
        broker_max_poll_records=500,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_MS,
        datadir=Path(tempfile.gettempdir()) / group,  # never written to, but Faust makes the folder
        producer_acks=-1,
        stream_buffer_maxsize=256,
        stream_wait_empty=True,
        TableManager=_NoTables,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )


def _credentials(kafka: Kafka) -> faust.auth.Credentials | None:
    """What Faust's clients show the brokers: the same as all others do."""
    options = connection(kafka)
    if "sasl_mechanism" in options:
        return faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=options.get("ssl_context"),
            mechanism=options["sasl_mechanism"],
        )
    return faust.SSLCredentials(options["ssl_context"]) if "ssl_context" in options else None


class _NoTables(TableManager):  # type: ignore[misc]
    """The tables of an app that has none: Faust would wait a second for some before it joins its group."""

    async def sleep(self, n: object, **_: object) -> None:
        """Return at once; nothing but that wait asks for it."""


_NoTables.logger = TableManager.logger  # else what it says at INFO is said in our name


class BatchAgent:
    """Batches of a few topics for one handler.

    Args:
        name: for metrics and logs.
        handle: takes a batch; raises `Unavailable` where the same batch should be given again.
        publisher: where a message that makes the handler fail is set aside.
        batch_max: most messages in a batch.
        saved: is told of a batch whose effects are all saved, before it is acknowledged.
        whole: adds to a batch what was passed over before it.
        gather_s: how long a batch that is not full waits for more. Nobody waits for what has time, and many
            small batches cost more than a few.
    """

    def __init__(
        self,
        name: str,
        handle: Handler,
        publisher: Publisher,
        telemetry: Telemetry,
        batch_max: int,
        saved: Handler | None = None,
        gather_s: float = 0.0,
        whole: Callable[[Sequence[RawMessage]], Awaitable[Sequence[RawMessage]]] | None = None,
    ) -> None:
        self.name = name
        self.waiting_for = ""
        self._topics: frozenset[str] = frozenset()
        self._app: faust.App | None = None
        self._in_hand: Counter[At] = Counter()
        self._done: Counter[At] = Counter()
        self._tries = 0
        self._handle = handle
        self._publisher = publisher
        self._telemetry = telemetry
        self._batch_max = batch_max
        self._saved = saved
        self._gather_s = gather_s
        self._whole = whole

    def attach(self, app: faust.App, *topics: str) -> None:
        """Subscribe to topics; one agent on several sees them in one order."""
        app.agent(app.topic(*topics), name=self.name, concurrency=1)(self._consume)
        self._topics, self._app = frozenset(topics), app

    def work(self) -> Work:
        """What there is to do and how far it is, by partition; to be called when the app has started."""
        app = self._app
        return self._work_of(standings(app.consumer._thread._consumer) if app else {})

    def _work_of(self, read: Mapping[At, Standing]) -> Work:
        """Of what the app has read, the partitions of this agent, with the messages that it has in hand."""
        found = {
            at: standing._replace(
                done=standing.done + self._done[at],
                left=standing.left if standing.left is None else standing.left + self._in_hand[at],
            )
            for at, standing in read.items()
            if at.topic in self._topics
        }
        return Work(self.name, found, self._tries, self.waiting_for)

    async def _consume(self, stream: StreamT[bytes]) -> None:
        stream.enable_acks = False
        queue: asyncio.Queue[EventT[bytes]] = asyncio.Queue(maxsize=2 * self._batch_max)
        self._in_hand.clear()
        async with asyncio.TaskGroup() as tasks:  # a worker that failed must end the taking, not stall it
            worker = tasks.create_task(self._work(stream, queue))
            async for event in stream.events():
                self._in_hand[_at(event)] += 1
                await queue.put(event)
            worker.cancel()

    async def _work(self, stream: StreamT[bytes], queue: asyncio.Queue[EventT[bytes]]) -> None:
        while True:
            batch = await self._take(queue)
            self._telemetry.batch_size.labels(self.name).observe(len(batch))
            messages: Sequence[RawMessage] = [_raw(event) for event in batch]
            if self._whole is not None:
                messages = await self._retried(self._whole, messages)
            await self._finish(messages)
            if self._saved is not None:
                await self._retried(self._saved, messages)
            for event in batch:
                await stream.ack(event)
                self._in_hand[_at(event)] -= 1
                self._done[_at(event)] += 1
            self._telemetry.last_progress.set_to_current_time()

    async def _take(self, queue: asyncio.Queue[EventT[bytes]]) -> list[EventT[bytes]]:
        """Wait for a message, and take what is there with it."""
        batch = [await queue.get()]
        if self._gather_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._gather_s):
                    while len(batch) < self._batch_max:
                        batch.append(await queue.get())
        while len(batch) < self._batch_max and not queue.empty():
            batch.append(queue.get_nowait())
        return batch

    async def _finish(self, messages: Sequence[RawMessage]) -> None:
        """Return once every message is handled or set aside."""
        tries = TRIES if len(messages) == 1 else 1
        for tries_left in reversed(range(tries)):
            try:
                await self._retried(self._handle, messages)
                return
            except Exception as error:
                if len(messages) > 1:
                    middle = len(messages) // 2
                    await self._finish(messages[:middle])
                    await self._finish(messages[middle:])
                elif not tries_left:
                    await self._set_aside(messages[0], error)

    async def _set_aside(self, message: RawMessage, error: Exception) -> None:
        """Publish a message to the dead letters, with the kind and the place of the error and no more."""
        topic, partition, offset, _ = message.source
        reason = f"{told(error)}, {TRIES} times"
        # The lines that were run and not the error's text, which may hold what a shopper sent.
        lines = "".join(traceback.format_tb(error.__traceback__))
        log.error(
            "%s: %s/%d/%d of %s is set aside: %s\n%s",
            *(self.name, topic, partition, offset, pseudonym(message.key or b""), reason, lines.rstrip()),
            extra=about(message.key or b"", place=(topic, partition, offset)),
        )
        letter = DeadLetter(message, ErrorCode.INTERNAL, reason)
        await self._retried(self._publisher.publish_dead_letters, [letter])
        self._telemetry.dead_letters.labels(topic, ErrorCode.INTERNAL).inc()

    async def _retried(self, call: Callable[[Sequence[T]], Awaitable[R]], given: Sequence[T]) -> R:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                result = await call(given)
            except OUTAGES as error:
                if not self.waiting_for:
                    log.warning("%s: waiting, nothing is acknowledged: %s", self.name, error)
                self.waiting_for = str(error) or type(error).__name__
                self._tries += 1
                self._telemetry.retries.labels(self.name, type(error).__name__).inc()
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                if self.waiting_for:
                    log.info("%s: going on", self.name)
                self.waiting_for = ""
                return result


def _at(event: EventT[bytes]) -> At:
    return At(event.message.topic, event.message.partition)


def _raw(event: EventT[bytes]) -> RawMessage:
    message = event.message
    return RawMessage(
        Source(message.topic, message.partition, message.offset, round(message.timestamp * 1000)),
        message.key,
        message.value,
        tuple((name, value or b"") for name, value in message.headers or ()),
    )
