"""The catalogue: `CatalogWriter` turns messages about items into vectors, `CatalogView` follows them.

Messages of `items` are encoded once, by the worker that owns their partition, and published to the
compacted topic `item-vectors`; every worker follows that topic whole into its own view. An item that
cannot be encoded now is published without a vector, so that its price and availability are in force at
once, and is encoded as soon as the encoder is back.

Another version of the encoder takes over without a gap: while it is a candidate, the owners of the items
encode them with it too, in the background, and publish records that carry both vectors. Each view keeps a
space for each of the two versions, and goes from one to the other as a whole: when the topic
`model-versions` says so and no item would lose its vector by it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from operator import not_

import numpy as np

from stream.core.context import Hits
from stream.core.events import ItemMessage, Source, decode_item, item_updated_ms
from stream.core.items import (
    DIMENSIONS,
    FloatArray,
    IntArray,
    Item,
    ItemTable,
    kept_attributes,
    margin_of,
)
from stream.core.policy import DAY_MS, DEFAULT_POLICY, MINUTE_MS, Policy
from stream.core.quality import assess, with_fit
from stream.core.spelling import Vocabulary
from stream.core.state import Search
from stream.core.versions import Serving
from stream.errors import InvalidMessage, ModelUnavailable
from stream.ports import DeadLetter, Encoder, ItemVector, NearestIndex, Publisher, RawMessage, TextIndex
from stream.telemetry import Telemetry
from stream.vector_space import VectorSpace

log = logging.getLogger(__name__)

ENCODE_TIMEOUT_S = 15.0
HEAL_BATCH = 64
NEW_FOR_DAYS = 30
NEW_AFTER_MINUTES = 1
"""An item that came this long after the first item of the catalogue was not part of its first load."""
NEW_KEPT = 50
MATCHING_KEPT = 1_000
"""Queries of which is remembered what their words match."""
REFUSED_KEPT = 1_000
"""Texts that the encoder refused and that are not tried again; the oldest are."""
REMOVALS_KEPT = 10_000
"""Removed items that could still be healed by mistake; the view has long come to the oldest."""


class CatalogView:
    """The catalogue as one worker sees it: facts by slot, vectors by version, words, and what is new.

    `space` is the one that lists are made from. It changes between two lists and never in one: whoever
    makes lists takes it once and uses that.

    Args:
        new_index: makes an empty index for one more version of the encoder.
        collecting: until `settle`, much comes at once: no index is made of it before `index` is called.
    """

    def __init__(
        self,
        new_index: Callable[[], NearestIndex],
        text: TextIndex,
        telemetry: Telemetry,
        policy: Policy = DEFAULT_POLICY,
        *,
        collecting: bool = False,
    ) -> None:
        self.items = ItemTable(min_quality=policy.min_quality)
        self.text = text
        self.vocabulary = Vocabulary()
        self.space = VectorSpace("", new_index)
        self._new_index = new_index
        self._collecting = collecting
        self._text_changed = False
        self._telemetry = telemetry
        self._sources: dict[str, Source] = {}
        self._serving: Serving | None = None
        self._spaces: dict[str, VectorSpace] = {}
        self._missing: dict[str, set[str]] = {}
        self._began_ms: int | None = None
        self._new: dict[str, int] = {}
        self._matching: OrderedDict[tuple[str, int], Hits] = OrderedDict()

    def serve(self, serving: Serving) -> list[str]:
        """Take in which versions of the encoder serve; return those whose space is new and still empty."""
        self._serving = serving
        new = [version for version in serving.kept if version not in self._spaces]
        for version in new:
            self._open(version)
        self._take_over()
        return new

    def settle(self) -> None:
        """Begin, once the topic is read, with the version that encoded most, the active one among equals."""
        self._collecting = False
        self._commit_text()
        if self._serving is not None:
            self.space = self._spaces[min(self._serving.kept, key=self.missing)]
            self._take_over()

    async def index(self) -> None:
        """Make the indexes of the vectors that were collected; lists may be made meanwhile."""
        for space in sorted(self._spaces.values(), key=lambda space: space is not self.space):
            if space.collecting:
                await space.index()
                log.info("encoder version %s: the index of its vectors is made", space.version)

    def fill(self, version: str, changes: Iterable[tuple[str, ItemVector | None]]) -> None:
        """Give a new space what lay in the topic before it: records that are still in force."""
        space = self._spaces.get(version)
        for item_id, made in changes:
            slot = self.items.slot(item_id)
            if space is None or slot is None or made is None or made.source != self._sources[item_id]:
                continue
            if version in made.vectors and not space.has_vector[slot]:
                space.put(slot, made.vectors[version], findable=not self.items.held_back(made.item))
                self._missing[version].discard(item_id)
        self._take_over()

    def apply(self, changes: Iterable[tuple[str, ItemVector | None]]) -> None:
        """Take in changes in the order of the topic; None removes an item."""
        for item_id, made in changes:
            if made is None:
                self._remove(item_id)
            else:
                self._put(made)
        if not self._collecting:
            self._commit_text()
        self._take_over()

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions of the encoder that every item should be encoded with, the one that serves first."""
        return self._serving.kept if self._serving else tuple(self._spaces)

    def missing(self, version: str) -> int:
        """How many items a version has not encoded yet."""
        return len(self._missing.get(version, self.items))

    def understood(self, search: Search | None) -> Search | None:
        """A search with its typing errors undone, as far as the words of the catalogue tell."""
        return search and search._replace(query=self.vocabulary.corrected(search.query))

    def matching(self, query: str, limit: int) -> Hits:
        """The items whose words match a query, with their BM25 scores.

        A search shapes several of a shopper's lists, and others search for the same: what was found is
        remembered until a text changes.
        """
        asked = query, limit
        hits = self._matching.get(asked)
        if hits is None:
            hits = self._matching[asked] = self._matched(query, limit)
            if len(self._matching) > MATCHING_KEPT:
                self._matching.popitem(last=False)
        else:
            self._matching.move_to_end(asked)
        return hits

    def _matched(self, query: str, limit: int) -> Hits:
        found = [
            (slot, score)
            for item_id, score in self.text.search(query, limit)
            if (slot := self.items.slot(item_id)) is not None
        ]
        slots, scores = zip(*found, strict=True) if found else ((), ())
        hits = Hits(np.array(slots, np.int32), np.array(scores, np.float32))
        for column in hits:
            column.setflags(write=False)
        return hits

    def source_of(self, item_id: str) -> Source | None:
        """The message of `items` that an item came from."""
        return self._sources.get(item_id)

    def vectors_of(self, item: Item) -> dict[str, FloatArray]:
        """The vectors that an item of this text has already, by version."""
        known, slot = self.items.get(item.item_id), self.items.slot(item.item_id)
        if known is None or slot is None or known.text != item.text:
            return {}
        return {
            version: space.vectors[slot].copy()
            for version, space in self._spaces.items()
            if slot < len(space.has_vector) and space.has_vector[slot]
        }

    def has_vector(self, item_id: str) -> bool:
        """Whether an item is known and has a vector in the space that lists are made from."""
        slot = self.items.slot(item_id)
        return slot is not None and bool(self.space.has_vector[slot])

    def without_vector(self, version: str) -> list[Item]:
        """The items that a version still has to encode; all where nothing is known of it."""
        if version not in self._missing:
            return list(self.items)
        found = (self.items.get(item_id) for item_id in self._missing[version])
        return [item for item in found if item is not None]

    def lacks_vector(self, item_id: str) -> bool:
        """Whether an item is known and a version still has to encode it."""
        return item_id in self.items and (
            not self._missing or any(item_id in missing for missing in self._missing.values())
        )

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

    def _commit_text(self) -> None:
        if self._text_changed:  # a commit costs milliseconds, and most records only bring a vector
            self.text.commit()
            self._text_changed = False
            self._matching.clear()  # slots too: an item that leaves the table leaves the text first

    def _put(self, made: ItemVector) -> None:
        item = made.item
        known = self.items.get(item.item_id)
        slot = self.items.put(item)
        held_back = self._count_held_back(known, item)
        self._sources[item.item_id] = made.source
        if self._serving is None and made.vectors and not self._spaces:
            self.space = self._open(next(iter(made.vectors)))  # nobody has said yet which version serves
        for version, space in self._spaces.items():
            if version in made.vectors:
                space.put(slot, made.vectors[version], findable=not held_back)
                self._missing[version].discard(item.item_id)
            else:
                space.remove(slot)
                self._missing[version].add(item.item_id)
        if not self._spaces:
            self.space.remove(slot)
        if known is not None and not self.items.held_back(known):
            if held_back:
                self._forget_words(known)
            elif known.text != item.text:
                self.vocabulary.remove(known.title, known.description)
                self.vocabulary.add(item.title, item.description)
        elif not held_back:
            self.vocabulary.add(item.title, item.description)
        if not held_back and (
            known is None
            or self.items.held_back(known)
            or (known.text, known.brand, known.category) != (item.text, item.brand, item.category)
        ):
            self.text.add(item.item_id, item.title, item.description, item.brand, item.category)
            self._text_changed = True
        self._note_new(item)

    def _remove(self, item_id: str) -> None:
        known = self.items.get(item_id)
        self._count_held_back(known, None)
        slot = self.items.remove(item_id)
        if slot is not None:
            for space in self._spaces.values():
                space.remove(slot)
        if known is not None and not self.items.held_back(known):
            self._forget_words(known)
        self._sources.pop(item_id, None)
        for missing in self._missing.values():
            missing.discard(item_id)
        self._new.pop(item_id, None)

    def _forget_words(self, item: Item) -> None:
        self.text.remove(item.item_id)
        self.vocabulary.remove(item.title, item.description)
        self._text_changed = True

    def _count_held_back(self, known: Item | None, item: Item | None) -> bool:
        """Count by finding what is held back now and was not, or the other way; whether the item is."""
        gauge = self._telemetry.catalogue_held_back
        if known is not None and self.items.held_back(known):
            for finding in known.quality_findings:
                gauge.labels(finding).dec()
        if item is None or not self.items.held_back(item):
            return False
        for finding in item.quality_findings:
            gauge.labels(finding).inc()
        return True

    def _open(self, version: str) -> VectorSpace:
        """Make the space of one more version: as large as the catalogue, and without a vector."""
        space = self._spaces[version] = VectorSpace(version, self._new_index, collecting=self._collecting)
        self._missing[version] = {item.item_id for item in self.items}
        for item_id in self._missing[version]:
            slot = self.items.slot(item_id)
            assert slot is not None
            space.remove(slot)
        return space

    def _take_over(self) -> None:
        """Choose the space that lists are made from, and tell what there is now."""
        self._choose_space()
        telemetry = self._telemetry
        telemetry.catalogue_items.set(len(self.items))
        telemetry.catalogue_without_vector.set(len(self._missing.get(self.space.version, ())))
        vectors = {version: len(self.items) - len(missing) for version, missing in self._missing.items()}
        telemetry.show_index(vectors, self.space.version)

    def _choose_space(self) -> None:
        """Make lists from the active version as soon as no item would lose its vector by it."""
        if self._serving is None:
            return
        active, old = self._serving.active, self._missing.get(self.space.version)
        if self.space.version != active and (
            old is None or self._serving.at_once or self._missing[active] <= old
        ):
            log.info("encoder: version %s takes over from %s", active, self.space.version or "none")
            self.space = self._spaces[active]
        for version in self._spaces.keys() - {*self._serving.kept, self.space.version}:
            del self._spaces[version], self._missing[version]

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
