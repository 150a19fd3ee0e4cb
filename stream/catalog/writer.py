"""What the worker that owns an item makes of messages about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import compress
from operator import not_

import numpy as np

from stream.catalog.view import CatalogView
from stream.core.events import ItemMessage, Source, decode_item, item_updated_ms
from stream.core.items import (
    DIMENSIONS,
    FloatArray,
    Item,
    kept_attributes,
    margin_of,
)
from stream.core.policy import DEFAULT_POLICY, Policy
from stream.core.quality import assess, with_fit
from stream.errors import InvalidMessage, ModelUnavailable
from stream.ports import DeadLetter, Encoder, ItemVector, Publisher, RawMessage
from stream.telemetry.metrics import Telemetry

ENCODE_TIMEOUT_S = 15.0
HEAL_BATCH = 64
REFUSED_KEPT = 1_000
"""Texts that the encoder refused and that are not tried again; the oldest are."""
REMOVALS_KEPT = 10_000
"""Removed items that could still be healed by mistake; the view has long come to the oldest."""


class CatalogWriter:
    """Messages of `items` in, encoded items out; one batch at a time.

    Args:
        view: what is known, so that an unchanged text is not encoded again.
        owns: whether this worker owns the partition of an item; only the owner encodes it later.
    """

    def __init__(
        self,
        view: CatalogView,
        encoder: Encoder,
        publisher: Publisher,
        telemetry: Telemetry,
        owns: Callable[[str], bool],
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        self._view = view
        self._policy = policy
        self._encoder = encoder
        self._publisher = publisher
        self._telemetry = telemetry
        self._owns = owns
        self._one_at_a_time = asyncio.Lock()
        self._refused: dict[tuple[str, str], str] = {}  # version, item id -> the text that it refused
        self._healed: dict[tuple[str, str], Source] = {}  # version, item id -> published, not yet in the view
        # What was published and is not yet seen in the view. A removal stays (None) until the item comes
        # again, since a view that shows nothing may just not have come to what was published before it.
        self._unfollowed: dict[str, Source | None] = {}
        self._leaving: dict[str, Source | None] = {}  # removed, and what the view still showed then

    async def handle(self, messages: Sequence[RawMessage]) -> None:
        """Encode and publish a batch; of several messages about one item the last one counts.

        Raises:
            PublishUnavailable: nothing may be acknowledged; give the same batch again.
        """
        letters: list[DeadLetter] = []
        latest: dict[str, tuple[ItemMessage | None, Source]] = {}
        for message in messages:
            try:
                item_id, content = decode_item(message.key, message.value)
            except InvalidMessage as error:
                letters.append(DeadLetter(message, error.code, error.message))
                self._telemetry.dead_letters.labels(message.source.topic, error.code).inc()
                continue
            latest[item_id] = (content, message.source)
        async with self._one_at_a_time:
            items = [
                (self._item(content, source), source)
                for content, source in latest.values()
                if content is not None
            ]
            removed = [item_id for item_id, (content, _) in latest.items() if content is None]
            self._leaving |= {item_id: self._view.source_of(item_id) for item_id in removed}
            # Of the versions only the one that serves; others follow in the background. What is withdrawn
            # does not wait for the encoder, which reads it later.
            version = self._view.space.version
            known = [self._view.vectors_of(item) for item, _ in items]
            at_once = [
                not item.available or version in vectors
                for (item, _), vectors in zip(items, known, strict=True)
            ]
            await self._publish(list(compress(items, at_once)), list(compress(known, at_once)), removed)
            others = list(compress(items, map(not_, at_once)))
            await self._publish(others, await self._vectors([item for item, _ in others], version), [])
        await self._publisher.publish_dead_letters(letters)

    async def _publish(
        self,
        items: Sequence[tuple[Item, Source]],
        vectors: Sequence[dict[str, FloatArray]],
        removed: Sequence[str],
    ) -> None:
        made = [
            ItemVector(item, encoded, source) for (item, source), encoded in zip(items, vectors, strict=True)
        ]
        self._unfollowed |= {made_one.item.item_id: made_one.source for made_one in made}
        self._unfollowed |= {item_id: None for item_id in removed if self._could_be_healed(item_id)}
        await self._publisher.publish_vectors(made, removed)

    async def heal(self) -> int:
        """Encode some of the owned items that a version has not encoded yet; return how many got a vector.

        Raises:
            PublishUnavailable: the broker is away.
        """
        healed = 0
        for version in self._view.versions or ("",):
            healed = healed or await self._heal(version)
        return healed

    async def note_fits(self, read: Sequence[tuple[Item, float]], version: str) -> int:
        """Publish how well categories fit texts, with items as they were read; return how many still are so.

        Raises:
            PublishUnavailable: the broker is away.
        """
        async with self._one_at_a_time:
            self._forget_followed()
            made = [
                ItemVector(with_fit(known, fit, version, self._policy), self._view.vectors_of(known), source)
                for item, fit in read
                if (known := self._view.items.get(item.item_id)) is not None
                and (source := self._view.source_of(item.item_id)) is not None
                and _says(known) == _says(item)
                and item.item_id not in self._unfollowed
                and self._leaving.get(item.item_id) != source
                and not self._view.lacks_vector(item.item_id)
            ]
            await self._publisher.publish_vectors(made, [])
            return len(made)

    def _forget_followed(self) -> None:
        """Forget what was published and the view has come to."""
        self._unfollowed = {
            item_id: source
            for item_id, source in self._unfollowed.items()
            if source is None or self._view.source_of(item_id) != source
        }
        removals = [item_id for item_id, source in self._unfollowed.items() if source is None]
        for item_id in removals[: max(0, len(removals) - REMOVALS_KEPT)]:
            del self._unfollowed[item_id]
        self._leaving = {
            item_id: source
            for item_id, source in self._leaving.items()
            if source is not None and self._view.source_of(item_id) == source
        }

    async def _heal(self, version: str) -> int:
        async with self._one_at_a_time:
            self._forget_followed()
            batch = [
                item
                for item in self._view.without_vector(version)
                if self._owns(item.item_id)
                and item.item_id not in self._unfollowed
                and self._refused.get((version, item.item_id)) != item.text
                and self._healed.get((version, item.item_id)) != self._view.source_of(item.item_id)
            ][:HEAL_BATCH]
            if not batch:
                self._healed.clear()  # what is still missing next time was overtaken by another record
                return 0
            vectors = await self._vectors(batch, version)
            made = [
                ItemVector(item, encoded, source)
                for item, encoded in zip(batch, vectors, strict=True)
                if (version in encoded if version else encoded)
                and (source := self._view.source_of(item.item_id)) is not None
            ]
            await self._publisher.publish_vectors(made, [])
            self._healed |= {(version, one.item.item_id): one.source for one in made}
            return len(made)

    def _item(self, message: ItemMessage, source: Source) -> Item:
        known = self._view.items.get(message.item_id)
        category, brand = " > ".join(message.category), message.brand or ""
        quality = assess(message.title, message.description, brand, category, message.attributes)
        item = Item(
            item_id=message.item_id,
            title=message.title,
            description=message.description,
            category=category,
            brand=brand,
            price=message.price,
            available=message.available,
            updated_ms=item_updated_ms(message, source),
            first_seen_ms=known.first_seen_ms if known else source.timestamp_ms,
            quality=quality.score,
            quality_findings=quality.findings,
            margin=margin_of(message.attributes),
            attributes=kept_attributes(message.attributes),
        )
        if known is None or known.fit is None or _says(known) != _says(item):
            return item
        return with_fit(item, known.fit, known.fit_version, self._policy)

    def _could_be_healed(self, item_id: str) -> bool:
        """Whether the view shows an item without a vector, or will before it shows its removal."""
        return item_id in self._unfollowed or self._view.lacks_vector(item_id)

    async def _vectors(self, items: Sequence[Item], version: str) -> list[dict[str, FloatArray]]:
        """The vectors of each item, a new one of `version` among them where the encoder can make it now."""
        found = [self._view.vectors_of(item) for item in items]
        todo = [
            place for place, vectors in enumerate(found) if not (version in vectors if version else vectors)
        ]
        try:
            vectors, made_by = await self._encode([items[place].text for place in todo], version)
        except ModelUnavailable as error:
            self._telemetry.model_failures.labels(error.model, error.reason).inc()
            if error.reason not in ("refused", "error"):
                return found
            # One text that the model cannot take must not keep the others out.
            for place in todo:
                try:
                    [vector], made_by = await self._encode([items[place].text], version)
                    found[place][made_by] = vector
                except ModelUnavailable as one:
                    self._telemetry.model_failures.labels(one.model, one.reason).inc()
                    if one.reason == "refused":
                        self._refused[version, items[place].item_id] = items[place].text
                        while len(self._refused) > REFUSED_KEPT:
                            del self._refused[next(iter(self._refused))]
            return found
        for place, vector in zip(todo, vectors, strict=True):
            found[place][made_by] = vector
        return found

    async def _encode(self, texts: Sequence[str], version: str) -> tuple[FloatArray, str]:
        if not texts:
            return np.zeros((0, DIMENSIONS), np.float32), version
        return await self._encoder.encode(texts, ENCODE_TIMEOUT_S, version)


def _says(item: Item) -> tuple[str, str, str]:
    """What the cross-encoder reads of an item."""
    return item.text, item.category, item.brand
