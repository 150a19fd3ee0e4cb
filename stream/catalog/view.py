"""The catalogue as one worker follows it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable

import numpy as np

from stream.catalog.vector_space import VectorSpace
from stream.core.context import NO_HITS, Hits
from stream.core.events import Source
from stream.core.items import (
    FloatArray,
    IntArray,
    Item,
    ItemTable,
)
from stream.core.policy import DAY_MS, DEFAULT_POLICY, MINUTE_MS, Policy
from stream.core.spelling import Vocabulary
from stream.core.state import Search
from stream.core.versions import Serving
from stream.ports import ItemVector, NearestIndex, TextIndex
from stream.telemetry.metrics import Telemetry

log = logging.getLogger(__name__)

NEW_FOR_DAYS = 30
NEW_AFTER_MINUTES = 1
"""An item that came this long after the first item of the catalogue was not part of its first load."""
NEW_KEPT = 50
MATCHING_KEPT = 1_000
"""Queries of which is remembered what their words match, and what is near them."""


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
        self._near: OrderedDict[tuple[bytes, int], tuple[int, Hits]] = OrderedDict()

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
        return _shared(Hits(np.array(slots, np.int32), np.array(scores, np.float32)))

    def near_query(self, space: VectorSpace, vector: FloatArray, limit: int) -> Hits:
        """The items nearest to the vector [384] of a query, with their cosines.

        Remembered as what its words match is, until a vector of the space changes.
        """
        asked = vector.tobytes(), limit
        edition, hits = self._near.get(asked, (-1, NO_HITS))
        self._telemetry.count_lookups("nearest", 1, int(edition != space.edition))
        if edition != space.edition:
            [found] = space.search(vector[None], limit)
            hits = _shared(Hits(*found))
            self._near[asked] = space.edition, hits
        self._near.move_to_end(asked)
        if len(self._near) > MATCHING_KEPT:
            self._near.popitem(last=False)
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


def _shared(hits: Hits) -> Hits:
    """Hits that several lists are made from."""
    for column in hits:
        column.setflags(write=False)
    return hits
