"""The catalogue: `CatalogWriter` turns messages about items into vectors, `CatalogView` follows them.

Messages of `items` are encoded once, by the worker that owns their partition, and published to the
compacted topic `item-vectors`; every worker follows that topic whole into its own view. An item that
cannot be encoded now is published without a vector, so that its price and availability are in force at
once, and is encoded as soon as the encoder is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from stream.core.candidates import Hits
from stream.core.events import ItemMessage, Source, decode_item, item_updated_ms
from stream.core.items import FloatArray, IntArray, Item, ItemTable
from stream.core.policy import DAY_MS, MINUTE_MS
from stream.errors import InvalidMessage, ModelUnavailable
from stream.ports import DeadLetter, Encoder, ItemVector, NearestIndex, Publisher, RawMessage, TextIndex
from stream.telemetry import Telemetry

log = logging.getLogger(__name__)

ENCODE_TIMEOUT_S = 15.0
HEAL_BATCH = 64
NEW_FOR_DAYS = 30
NEW_AFTER_MINUTES = 1
"""An item that came this long after the first item of the catalogue was not part of its first load."""
NEW_KEPT = 50


class Encoded(NamedTuple):
    """A vector [384], None where there is none, and the version of the encoder that made it."""

    vector: FloatArray | None
    version: str


NOT_ENCODED = Encoded(None, "")


class CatalogView:
    """The catalogue as one worker sees it: facts by slot, nearest vectors, words, and what is new."""

    def __init__(self, nearest: NearestIndex, text: TextIndex, telemetry: Telemetry) -> None:
        self.items = ItemTable()
        self.nearest = nearest
        self.text = text
        self._telemetry = telemetry
        self._sources: dict[str, Source] = {}
        self._encoder_versions: dict[str, str] = {}
        self._encoder_version = ""
        self._began_ms: int | None = None
        self._new: dict[str, int] = {}
        self._without_vector: set[str] = set()

    def apply(self, changes: Iterable[tuple[str, ItemVector | None]]) -> None:
        """Take in changes in the order of the topic; None removes an item."""
        for item_id, made in changes:
            if made is None:
                self._remove(item_id)
            else:
                self._put(made)
        self.text.commit()
        self._telemetry.catalogue_items.set(len(self.items))
        self._telemetry.catalogue_without_vector.set(len(self._without_vector))

    @property
    def encoder_version(self) -> str:
        """The version of the encoder that made the newest vector, "" before the first."""
        return self._encoder_version

    def matching(self, query: str, limit: int) -> Hits:
        """The items whose words match a query, with their BM25 scores."""
        found = [
            (slot, score)
            for item_id, score in self.text.search(query, limit)
            if (slot := self.items.slot(item_id)) is not None
        ]
        slots, scores = zip(*found, strict=True) if found else ((), ())
        return Hits(np.array(slots, np.int32), np.array(scores, np.float32))

    def source_of(self, item_id: str) -> Source | None:
        """The message of `items` that an item came from."""
        return self._sources.get(item_id)

    def vector_of(self, item: Item) -> Encoded:
        """The vector that an item of this text has already."""
        known, slot = self.items.get(item.item_id), self.items.slot(item.item_id)
        if known is None or slot is None or known.text != item.text or not self.items.has_vector[slot]:
            return NOT_ENCODED
        return Encoded(self.items.vectors[slot].copy(), self._encoder_versions[item.item_id])

    def has_vector(self, item_id: str) -> bool:
        """Whether an item is known and encoded."""
        slot = self.items.slot(item_id)
        return slot is not None and bool(self.items.has_vector[slot])

    def without_vector(self) -> list[Item]:
        """The items that still have to be encoded."""
        found = (self.items.get(item_id) for item_id in self._without_vector)
        return [item for item in found if item is not None]

    def new_items(self, at_ms: int) -> IntArray:
        """The slots of items that joined a catalogue already there, newest first; at most 50."""
        first_load_ms = (self._began_ms or 0) + NEW_AFTER_MINUTES * MINUTE_MS
        oldest_ms = max(at_ms - NEW_FOR_DAYS * DAY_MS, first_load_ms + 1)
        slots = [
            slot
            for item_id, first_ms in sorted(self._new.items(), key=lambda entry: -entry[1])
            if first_ms >= oldest_ms and (slot := self.items.slot(item_id)) is not None
        ]
        return np.array(slots[:NEW_KEPT], np.int32)

    def _put(self, made: ItemVector) -> None:
        item = made.item
        known = self.items.get(item.item_id)
        slot = self.items.put(item, made.vector)
        self._sources[item.item_id] = made.source
        self._encoder_versions[item.item_id] = made.encoder_version
        if made.vector is None:
            self._without_vector.add(item.item_id)
            self.nearest.remove(slot)
        else:
            self._without_vector.discard(item.item_id)
            self._encoder_version = made.encoder_version
            self.nearest.put(slot, made.vector)
        if known is None or (known.text, known.brand, known.category) != (
            item.text,
            item.brand,
            item.category,
        ):
            self.text.add(item.item_id, item.title, item.description, item.brand, item.category)
        self._note_new(item)

    def _remove(self, item_id: str) -> None:
        slot = self.items.remove(item_id)
        if slot is not None:
            self.nearest.remove(slot)
            self.text.remove(item_id)
        self._sources.pop(item_id, None)
        self._encoder_versions.pop(item_id, None)
        self._without_vector.discard(item_id)
        self._new.pop(item_id, None)

    def _note_new(self, item: Item) -> None:
        if self._began_ms is None or item.first_seen_ms < self._began_ms:
            self._began_ms = item.first_seen_ms
        # The topic is not read in the order of time, so what is new is known only at the end.
        self._new[item.item_id] = item.first_seen_ms
        if len(self._new) > 2 * NEW_KEPT:
            newest = sorted(self._new.items(), key=lambda entry: -entry[1])[:NEW_KEPT]
            self._new = dict(newest)


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
    ) -> None:
        self._view = view
        self._encoder = encoder
        self._publisher = publisher
        self._telemetry = telemetry
        self._owns = owns
        self._one_at_a_time = asyncio.Lock()
        self._version = ""
        self._refused: dict[str, str] = {}  # item id -> the text that the encoder refused
        # What was published and is not yet seen in the view. A removal stays (None) until the item comes
        # again, since a view that shows nothing may just not have come to what was published before it.
        self._unfollowed: dict[str, Source | None] = {}

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
            vectors = await self._vectors([item for item, _ in items])
            made = [
                ItemVector(item, *encoded, source)
                for (item, source), encoded in zip(items, vectors, strict=True)
            ]
            removed = [item_id for item_id, (content, _) in latest.items() if content is None]
            self._unfollowed |= {made_one.item.item_id: made_one.source for made_one in made}
            self._unfollowed |= {item_id: None for item_id in removed if self._could_be_healed(item_id)}
            await self._publisher.publish_vectors(made, removed)
        await self._publisher.publish_dead_letters(letters)

    async def heal(self) -> int:
        """Encode some of the owned items that have no vector yet; return how many got one.

        Raises:
            PublishUnavailable: the broker is away.
        """
        async with self._one_at_a_time:
            self._unfollowed = {
                item_id: source
                for item_id, source in self._unfollowed.items()
                if source is None or self._view.source_of(item_id) != source
            }
            batch = [
                item
                for item in self._view.without_vector()
                if self._owns(item.item_id)
                and item.item_id not in self._unfollowed
                and self._refused.get(item.item_id) != item.text
            ][:HEAL_BATCH]
            if not batch:
                return 0
            vectors = await self._vectors(batch)
            made = [
                ItemVector(item, *encoded, source)
                for item, encoded in zip(batch, vectors, strict=True)
                if encoded.vector is not None and (source := self._view.source_of(item.item_id)) is not None
            ]
            await self._publisher.publish_vectors(made, [])
            return len(made)

    def _item(self, message: ItemMessage, source: Source) -> Item:
        known = self._view.items.get(message.item_id)
        return Item(
            item_id=message.item_id,
            title=message.title,
            description=message.description,
            category=" > ".join(message.category),
            brand=message.brand or "",
            price=message.price,
            available=message.available,
            updated_ms=item_updated_ms(message, source),
            first_seen_ms=known.first_seen_ms if known else source.timestamp_ms,
        )

    def _could_be_healed(self, item_id: str) -> bool:
        """Whether the view shows an item without a vector, or will before it shows its removal."""
        return item_id in self._unfollowed or (
            item_id in self._view.items and not self._view.has_vector(item_id)
        )

    async def _vectors(self, items: Sequence[Item]) -> list[Encoded]:
        """One vector an item; none for those new texts that the encoder cannot do now or at all."""
        found = [self._view.vector_of(item) for item in items]
        todo = [
            place
            for place, (vector, version) in enumerate(found)
            if vector is None or version != self._version
        ]
        try:
            vectors = await self._encode([items[place].text for place in todo])
        except ModelUnavailable as error:
            self._telemetry.model_failures.labels(error.model, error.reason).inc()
            if error.reason not in ("refused", "error"):
                return found
            # One text that the model cannot take must not keep the others out.
            for place in todo:
                try:
                    found[place] = (await self._encode([items[place].text]))[0]
                except ModelUnavailable as one:
                    self._telemetry.model_failures.labels(one.model, one.reason).inc()
                    if one.reason == "refused":
                        self._refused[items[place].item_id] = items[place].text
            return found
        for place, encoded in zip(todo, vectors, strict=True):
            found[place] = encoded
        return found

    async def _encode(self, texts: Sequence[str]) -> list[Encoded]:
        if not texts:
            return []
        vectors, self._version = await self._encoder.encode(texts, ENCODE_TIMEOUT_S)
        return [Encoded(vector, self._version) for vector in vectors]
