"""The vectors of one version of the encoder and what is near among them."""

from __future__ import annotations

from stream.core.items import FloatArray, IntArray
from stream.core.vectors import ItemVectors
from stream.ports import NearestIndex


class VectorSpace(ItemVectors):
    """What one version of the encoder made of the catalogue: vectors by slot, and an index of them.

    Vectors of two versions mean nothing to each other. So each version has a space of its own, a list is made
    from one space, and a query's vector is asked of exactly `version`.

    Args:
        version: of the encoder, "" for a space that stays empty.
        index: an empty one.
    """

    def __init__(self, version: str, index: NearestIndex) -> None:
        super().__init__(version=version)
        self._index = index

    def put(self, slot: int, vector: FloatArray, *, findable: bool = True) -> None:
        """Add or replace the vector [384] of a slot; one that is not `findable` is near to nothing."""
        super().put(slot, vector)
        if findable:
            self._index.put(slot, vector)
        else:
            self._index.remove(slot)

    def remove(self, slot: int) -> None:
        """Let a slot have no vector."""
        super().remove(slot)
        self._index.remove(slot)

    def search(self, vectors: FloatArray, limit: int) -> list[tuple[IntArray, FloatArray]]:
        """For each row of `vectors` [n, 384]: up to `limit` slots and cosines, nearest first."""
        return self._index.search(vectors, limit)
