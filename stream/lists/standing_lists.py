"""How a worker learns of the lists that stand for shoppers it takes over: from the end of the topic."""

from __future__ import annotations

import asyncio
import logging
import time

from faust.types import TP

from stream.adapters.kafka_lists import standing_lists
from stream.config import Config
from stream.errors import Unavailable
from stream.lists.shown_lists import ShownLists

log = logging.getLogger(__name__)

RETRY_S = 1.0


class StandingLists:
    """Fill a worker's index of lists whenever it gets partitions.

    What lies further back in the topic than the index is large is not covered, and neither is a list whose
    trigger lay in a partition of another worker.
    """

    def __init__(self, config: Config, shown: ShownLists) -> None:
        self._config = config
        self._shown = shown
        self._owned: frozenset[tuple[str, int]] = frozenset()
        self._reading: asyncio.Task[None] | None = None

    async def take_over(self, _: object, assigned: set[TP], **__: object) -> None:
        """Forget the shoppers that are somebody else's now, and begin to read those that came."""
        before, self._owned = self._owned, frozenset((tp.topic, tp.partition) for tp in assigned)
        self._shown.keep_only(self._owns)
        if self._owned - before:
            await self.stop()
            self._reading = asyncio.ensure_future(self._read())

    async def stop(self) -> None:
        """End the reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    def _owns(self, topic: str, partition: int) -> bool:
        return (topic, partition) in self._owned

    async def _read(self) -> None:
        while True:
            try:
                async for made in standing_lists(self._config):
                    fresh = made.expires_at > time.time_ns() // 1_000_000
                    if fresh and self._owns(made.trigger.topic, made.trigger.partition):
                        self._shown.put(made, read_back=True)
                    await asyncio.sleep(0)  # events come first
            except Unavailable as error:
                log.warning("lists that stand: %s", error)
                await asyncio.sleep(RETRY_S)
            else:
                log.info("%d lists stand", len(self._shown))
                return
