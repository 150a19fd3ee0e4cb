"""How a worker goes by the topic `model-versions`: follows it, says what it uses, writes the first record."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from functools import partial

from stream.adapters import vector_record
from stream.adapters.kafka_follower import Changes, TopicFollower
from stream.adapters.model_records import write_record
from stream.adapters.triton_repository import TritonRepository
from stream.catalog.view import CatalogView
from stream.config import Config
from stream.core.versions import Serving, order
from stream.errors import InvalidMessage
from stream.models.model_versions import ModelVersions
from stream.ports import ItemVector, WorkerReport, WorkerReports

log = logging.getLogger(__name__)


class VersionControl:
    """Which versions serve, for one worker.

    Args:
        view: whose spaces follow the encoder's versions.
        repository: asked for the highest versions where no record says which serve.
        reports: where this worker says which versions it uses.
        skipped: told of the topic of each record that cannot be read.

    `records` is to be run, and has caught up, before the items are followed.
    """

    def __init__(
        self,
        config: Config,
        view: CatalogView,
        repository: TritonRepository,
        reports: WorkerReports,
        skipped: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._view = view
        self._repository = repository
        self._reports = reports
        self._skipped = skipped
        self._models = (config.triton.encoder, config.triton.reranker, config.triton.cross_encoder)
        self._worker = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"
        self._listeners: dict[str, Callable[[str], None]] = {}
        self._items: TopicFollower | None = None
        self._filling: set[asyncio.Task[None]] = set()
        topic = config.topics.model_versions
        self.versions = ModelVersions(self._changed, partial(skipped, topic))
        self.records = TopicFollower(config.kafka, topic, self.versions.apply, skipped)

    def listen(self, model: str, changed: Callable[[str], None]) -> None:
        """Have a function called with a model's active version whenever its record changes."""
        self._listeners[model] = changed

    def follow_items(self, apply: Callable[[Changes], None]) -> TopicFollower:
        """Make the follower of the items: a space opened later than this has missed some of them."""
        topic = self._config.topics.item_vectors
        self._items = TopicFollower(self._config.kafka, topic, apply, self._skipped)
        return self._items

    async def pin(self) -> None:
        """Write down the highest version that Triton serves of each model that no record speaks of.

        So a version that is loaded later serves nobody before it is promoted.

        Raises:
            Unavailable: Triton or Kafka did not answer.
        """
        without = [model for model in self._models if model not in self.versions]
        if not without:
            return
        for model in without:
            ready = await self._repository.ready(model)
            if ready and model not in self.versions:
                serving = Serving(max(ready, key=order), at_ms=time.time_ns() // 1_000_000)
                await write_record(self._config, model, serving)
                self.versions.take(model, serving)

    async def report(self) -> None:
        """Say which versions this worker uses.

        Raises:
            StateUnavailable: Redis is away.
        """
        encoder = self._config.triton.encoder
        serving = {model: self.versions.active(model) for model in self._models}
        await self._reports.report(
            WorkerReport(
                worker=self._worker,
                serving={**serving, encoder: self._view.space.version},
                at_ms={model: self.versions.at_ms(model) for model in self._models},
                items=len(self._view.items),
                missing={version: self._view.missing(version) for version in self._view.versions},
            )
        )

    def _changed(self, model: str, serving: Serving) -> None:
        log.info("%s: version %s serves, candidate %s", model, serving.active, serving.candidate or "none")
        if model == self._config.triton.encoder:
            new = self._view.serve(serving)
            if new and self._items is not None:
                task = asyncio.ensure_future(self._fill(new, self._items))
                self._filling.add(task)
                task.add_done_callback(self._filling.discard)
        if model in self._listeners:
            self._listeners[model](serving.active)

    async def _fill(self, versions: list[str], items: TopicFollower) -> None:
        """Read the items' topic once more, for vectors that came before this worker knew of their version."""
        await items.caught_up.wait()

        def apply(changes: Changes) -> None:
            made = read_vectors(changes)
            for version in versions:
                self._view.fill(version, made)

        topic = self._config.topics.item_vectors
        await TopicFollower(self._config.kafka, topic, apply).read_once()


def read_vectors(
    changes: Changes, skipped: Callable[[], None] = lambda: None
) -> list[tuple[str, ItemVector | None]]:
    """Read what lies on `item-vectors`; a record that this release cannot read is skipped with a warning."""
    decoded: list[tuple[str, ItemVector | None]] = []
    for key, value in changes:
        try:
            decoded.append(((key or b"").decode(), None if value is None else vector_record.decode(value)))
        except (InvalidMessage, UnicodeDecodeError) as error:
            log.warning("an item vector is skipped: %s", error)
            skipped()
    return decoded
