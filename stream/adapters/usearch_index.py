"""The nearest item vectors, by an HNSW graph in memory (usearch)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from stream.core.items import DIMENSIONS, FloatArray, IntArray

LARGEST = 0.25
"""Components of a unit vector beyond this, five times their root mean square, are kept as this."""
_UNIT = 127 / LARGEST


class UsearchIndex:
    """`NearestIndex` on usearch: vectors as bytes, cosines off by some thousandths.

    Args:
        connectivity: edges of a node; more is more exact and larger.
        expansion: candidates kept while searching; more is more exact and slower.
    """

    def __init__(self, connectivity: int = 16, expansion: int = 64) -> None:
        self._index = Index(
            ndim=DIMENSIONS,
            metric="ip",
            dtype="i8",
            connectivity=connectivity,
            expansion_add=192,
            expansion_search=expansion,
        )

    def put(self, slot: int, vector: FloatArray) -> None:
        """Add or replace the vector [384] of a slot."""
        if slot in self._index:
            self._index.remove(slot)
        self._index.add(slot, _bytes(vector))

    @property
    def memory_bytes(self) -> int:
        """What the graph and its vectors take."""
        return int(self._index.memory_usage)

    def load(self, slots: IntArray, vectors: FloatArray, threads: int = 1) -> None:
        """Add the vectors [n, 384] of slots [n] that are not there yet; other threads go on meanwhile."""
        self._index.add(slots.astype(np.uint64), _bytes(vectors), threads=threads)

    def remove(self, slot: int) -> None:
        """Forget a slot; nothing happens where it is unknown."""
        if slot in self._index:
            self._index.remove(slot)

    def search(self, vectors: FloatArray, limit: int) -> list[tuple[IntArray, FloatArray]]:
        """For each row of `vectors` [n, 384]: up to `limit` slots and cosines, nearest first."""
        if not len(vectors):
            return []
        if not len(self._index):
            nothing = (np.zeros(0, np.int32), np.zeros(0, np.float32))
            return [nothing] * len(vectors)
        found = self._index.search(np.atleast_2d(_bytes(vectors)), limit, threads=1)
        keys, distances = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
        counts = np.atleast_1d(found.counts) if len(vectors) > 1 else [len(found.keys)]
        return [
            (keys[row, :count].astype(np.int32), (1.0 - distances[row, :count].astype(np.float32)) / _UNIT**2)
            for row, count in enumerate(counts)
        ]


def _bytes(vectors: FloatArray) -> NDArray[np.int8]:
    """Round to the nearest byte; usearch's own, of steps of 1/127, are coarser and cut towards zero."""
    rounded: NDArray[np.int8] = np.clip(np.rint(vectors * _UNIT), -127, 127).astype(np.int8)
    return rounded
