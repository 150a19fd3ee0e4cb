"""The vectors of one version of the encoder and what is near among them."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable

import numpy as np

from stream.core.items import BoolArray, FloatArray, IntArray, doubled
from stream.core.vectors import ItemVectors, near_together
from stream.ports import NearestIndex

_editions = itertools.count()
SPARE = 0.25
"""How many more than asked for are compared exactly: an index is small and quick, and misjudges the last."""
LOADED_AT_ONCE = 1_000
"""Vectors that go into an index while nothing else is asked of the thread that does it."""


class VectorSpace(ItemVectors):
    """What one version of the encoder made of the catalogue: vectors by slot, and an index of them.

    Vectors of two versions mean nothing to each other. So each version has a space of its own, a list is made
    from one space, and a query's vector is asked of exactly `version`.

    Args:
        version: of the encoder, "" for a space that stays empty.
        new_index: makes an empty one.
        collecting: vectors are only kept, and compared one by one, until `index` has made an index of them:
            that of a large catalogue takes minutes, and lists need not wait for it.
    """

    def __init__(
        self, version: str, new_index: Callable[[], NearestIndex], *, collecting: bool = False
    ) -> None:
        super().__init__(version=version)
        self._new_index = new_index
        self._index = new_index()
        self._findable: BoolArray = np.zeros(len(self.has_vector), np.bool_)
        self._changed: set[int] = set()
        self.collecting = collecting
        self.edition = next(_editions)
        """Another one after every change, and in every space: as long as it stays, so does what is near."""

    def put(self, slot: int, vector: FloatArray, *, findable: bool = True) -> None:
        """Add or replace the vector [384] of a slot; one that is not `findable` is near to nothing."""
        super().put(slot, vector)
        self._note(slot, findable)

    def remove(self, slot: int) -> None:
        """Let a slot have no vector."""
        super().remove(slot)
        self._note(slot, False)

    def search(self, vectors: FloatArray, limit: int) -> list[tuple[IntArray, FloatArray]]:
        """For each row of `vectors` [n, 384]: up to `limit` slots and cosines, nearest first."""
        if self.collecting:
            return self._compare(vectors, limit)
        found = self._index.search(vectors, limit + math.ceil(SPARE * limit))
        return [
            self._nearest(vector, slots, limit) for vector, (slots, _) in zip(vectors, found, strict=True)
        ]

    async def index(self) -> None:
        """Make the index of what was collected, in another thread, and search it from then on."""
        index = self._new_index()
        self._changed.clear()
        slots = np.flatnonzero(self._findable).astype(np.int32)
        slots = await asyncio.to_thread(near_together, slots, self.vectors)
        for start in range(0, len(slots), LOADED_AT_ONCE):
            some = slots[start : start + LOADED_AT_ONCE]
            await asyncio.to_thread(index.load, some, self.vectors[some])
        self._index, self.collecting, self.edition = index, False, next(_editions)
        for slot in self._changed:
            self._note(slot, bool(self._findable[slot]))
        self._changed.clear()

    def _note(self, slot: int, findable: bool) -> None:
        while slot >= len(self._findable):
            self._findable = doubled(self._findable)
        self._findable[slot] = findable
        self.edition = next(_editions)
        if self.collecting:
            self._changed.add(slot)
        elif findable:
            self._index.put(slot, self.vectors[slot])
        else:
            self._index.remove(slot)

    def _nearest(self, vector: FloatArray, slots: IntArray, limit: int) -> tuple[IntArray, FloatArray]:
        cosines = self.vectors[slots] @ vector
        best = np.argsort(-cosines, kind="stable")[:limit]
        return slots[best], cosines[best]

    def _compare(self, vectors: FloatArray, limit: int) -> list[tuple[IntArray, FloatArray]]:
        """Search without an index: exact, and as long as there are vectors."""
        cosines = vectors @ self.vectors.T
        found = []
        for row in cosines:
            row[~self._findable] = -np.inf
            best = np.argpartition(-row, limit)[:limit] if limit < len(row) else np.arange(len(row))
            best = best[np.argsort(-row[best], kind="stable")]
            best = best[row[best] > -np.inf]
            found.append((best.astype(np.int32), row[best]))
        return found
