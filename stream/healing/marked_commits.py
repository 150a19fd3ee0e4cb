"""Faust, made to go back where Redis forgot, and to note with each committed offset that marks are kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any, cast

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.adapters.kafka_clients import ISOLATION
from stream.adapters.kafka_offsets import read_logs
from stream.adapters.kafka_standing import standings
from stream.config import Config
from stream.errors import Unavailable
from stream.healing.marks import Marks
from stream.healing.passed_over import PassedOver, Stand
from stream.ports import Place
from stream.process.progress import At

log = logging.getLogger(__name__)

RETRY_S = 0.5
PATIENCE_S = 5.0
"""How long a check may keep partitions from being taken."""


class MarkedCommits:
    """The marks of one app's partitions, kept in step with its consumer group.

    Args:
        passed_over: is asked at each check which partitions to read again.
        topics: those whose effects are saved in Redis.
    """

    def __init__(
        self,
        app: faust.App,
        marks: Marks,
        passed_over: PassedOver,
        config: Config,
        group: str,
        *topics: str,
    ) -> None:
        self.marks = marks
        self._passed_over = passed_over
        self.waiting_for = ""
        self._app = app
        self._config = config
        self._group = group
        self._topics = topics
        self._in_turn = asyncio.Lock()  # a check must not see half of what taking partitions changes
        app.transport = _transport(marks)(app.conf.broker_consumer, app)
        # Faust awaits who listens here after its partitions are known and before it looks up, and seeks to,
        # the committed offsets; nothing is fetched meanwhile.
        app.on_rebalance_complete.connect(self._take)

    async def check(self) -> None:
        """Notice that Redis forgot, a topic was made anew, or messages were passed over.

        Raises:
            Unavailable: Kafka or Redis did not answer.
        """
        async with self._in_turn:
            await self.marks.check()
            saved = self.marks.saved(self._owned())
            if not saved or self._app.should_stop:
                return
            try:
                async with asyncio.timeout(PATIENCE_S):
                    found = await self._app.consumer.highwaters(*(TP(*place) for place in saved))
                    ends = {(tp.topic, tp.partition): end for tp, end in found.items()}
                    # A release that read open transactions may have marked beyond what is readable now.
                    beyond = [place for place, offset in saved.items() if ends.get(place, offset) < offset]
                    logs = await read_logs(self._config.kafka, self._group, beyond)
                    self.marks.compare(saved, ends | {place: log.end for place, log in logs.items()})
                    await self._seek(await self._passed_over.look(self._stands(saved, ends)))
            except (KafkaError, TimeoutError) as error:
                raise Unavailable(f"Kafka did not tell what its partitions hold: {error!r}") from error

    def _stands(self, saved: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[Place, Stand]:
        """How partitions stand; empty while messages are in hand, or partitions change hands."""
        consumer = cast(Any, self._app.consumer)
        if self._app.rebalancing or any(not message.acked for message in consumer.unacked):
            return {}
        read = standings(consumer._thread._consumer)
        return {
            place: Stand(mark, read[at].done, ends[place])
            for place, mark in saved.items()
            if place in ends and (at := At(*place)) in read and self.marks.saved([place]) == {place: mark}
        }

    async def _take(self, *_: object, **__: object) -> None:
        """Commit where to go on, of every partition that has to be read again or from its beginning."""
        async with self._in_turn:
            while True:
                try:
                    logs = await read_logs(self._config.kafka, self._group, self._owned())
                    offsets = await self.marks.begin(logs)
                except Unavailable as error:
                    if not self.waiting_for:
                        log.warning("waiting, nothing is read: %s", error)
                    self.waiting_for = str(error)
                    await asyncio.sleep(RETRY_S)
                else:
                    self.waiting_for = ""
                    await self._go_back(offsets)
                    return

    async def _go_back(self, offsets: Mapping[Place, int]) -> None:
        """Commit in the group's name, so that only who owns a partition now can, and seek."""
        if not offsets:
            return
        to = {TP(*place): offset for place, offset in offsets.items()}
        # Faust's public `commit` takes acknowledged offsets only, which never go back.
        consumer = cast(Any, self._app.consumer)
        if not await consumer._commit(to):
            return  # they are somebody else's already
        await self._seek(offsets)

    async def _seek(self, offsets: Mapping[Place, int]) -> None:
        consumer = self._app.consumer
        try:
            for place, offset in offsets.items():
                # A position that is still asked for would undo a seek.
                await consumer.position(TP(*place))
                await consumer.seek(TP(*place), offset)
        except IllegalStateError:
            log.info("partitions are assigned anew already")

    def _owned(self) -> Collection[Place]:
        return [
            (tp.topic, tp.partition) for tp in self._app.consumer.assignment() if tp.topic in self._topics
        ]


def _transport(marks: Marks) -> type[driver.Transport]:
    """Faust's transport, whose commits carry the notes of marks, and whose seeks leave nothing out."""

    class Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
        def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> AIOKafkaConsumer:
            consumer = super()._create_consumer(loop)
            consumer._isolation_level = ISOLATION  # Faust sets it for its own transactions only
            commit = consumer.commit

            async def noting(offsets: Mapping[TP, OffsetAndMetadata]) -> None:
                await commit(
                    {
                        tp: OffsetAndMetadata(at.offset, marks.note(tp.topic, tp.partition))
                        for tp, at in offsets.items()
                    }
                )

            consumer.commit = noting
            return consumer

        async def seek_to_committed(self) -> Mapping[TP, int]:
            found: Mapping[TP, int] = await self.call_thread(self._seek_to_committed)
            return found

        async def _seek_to_committed(self) -> Mapping[TP, int | None]:
            """Seek all partitions, also those that aiokafka leaves out: where nothing, or 0, is committed.

            A fetch that waited for the assignment may have taken their first records already, and Faust
            drops what it is given before it reads.
            """
            consumer = self._ensure_consumer()
            committed: Mapping[TP, int | None] = await consumer.seek_to_committed()
            for tp, offset in committed.items():
                if not offset and tp in consumer.assignment():
                    consumer.seek(tp, 0)
            return committed

    class Consumer(driver.Consumer):  # type: ignore[misc]
        def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
            return Thread(self, loop=self.loop, beacon=self.beacon)

    class Transport(driver.Transport):  # type: ignore[misc]
        pass

    Thread.logger = Consumer.logger = driver.logger  # else what they say at INFO is said in our name
    Transport.Consumer = Consumer
    return Transport
