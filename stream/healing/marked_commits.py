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

from stream.adapters.kafka_offsets import read_logs
from stream.config import Config
from stream.errors import Unavailable
from stream.healing.marks import Marks
from stream.ports import Place

log = logging.getLogger(__name__)

RETRY_S = 0.5
PATIENCE_S = 5.0
"""How long a check may keep partitions from being taken."""


class MarkedCommits:
    """The marks of one app's partitions, kept in step with its consumer group.

    Args:
        topics: those whose effects are saved in Redis.
    """

    def __init__(self, app: faust.App, marks: Marks, config: Config, group: str, *topics: str) -> None:
        self.marks = marks
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
        """Notice that Redis forgot, or a topic was made anew, while nothing is saved.

        Raises:
            Unavailable: Kafka or Redis did not answer.
        """
        async with self._in_turn:
            await self.marks.check()
            saved = self.marks.saved(self._owned())
            if not saved:
                return
            try:
                async with asyncio.timeout(PATIENCE_S):
                    found = await self._app.consumer.highwaters(*(TP(*place) for place in saved))
            except (KafkaError, TimeoutError) as error:
                raise Unavailable(f"Kafka did not tell where its partitions end: {error!r}") from error
            self.marks.compare(saved, {(tp.topic, tp.partition): end for tp, end in found.items()})

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
        try:
            for tp, offset in to.items():
                # Who seeks to the committed offsets after this leaves out 0. A position that is still asked
                # for would undo a seek.
                await consumer.position(tp)
                await consumer.seek(tp, offset)
        except IllegalStateError:
            log.info("partitions are assigned anew already")

    def _owned(self) -> Collection[Place]:
        return [
            (tp.topic, tp.partition) for tp in self._app.consumer.assignment() if tp.topic in self._topics
        ]


def _transport(marks: Marks) -> type[driver.Transport]:
    """Faust's transport, whose commits carry the notes of marks."""

    class Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
        def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> AIOKafkaConsumer:
            consumer = super()._create_consumer(loop)
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

    class Consumer(driver.Consumer):  # type: ignore[misc]
        def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
            return Thread(self, loop=self.loop, beacon=self.beacon)

    class Transport(driver.Transport):  # type: ignore[misc]
        pass

    Thread.logger = Consumer.logger = driver.logger  # else what they say at INFO is said in our name
    Transport.Consumer = Consumer
    return Transport
