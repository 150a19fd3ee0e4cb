"""The vectors of the items by slot, as one version of the encoder made them."""

from __future__ import annotations

import math

import numpy as np

from stream.core.items import DIMENSIONS, BoolArray, FloatArray, IntArray, doubled

COMPARED_AT_ONCE = 1_000
"""Vectors that are compared with the leaders in one product of matrices, which bounds its memory."""


class ItemVectors:
    """Columns beside those of an `ItemTable`, by the same slots.

    `vectors` [capacity, 384] are L2-normalised, zero where unknown; `has_vector` [capacity] says where
    they are known. Every slot that was given to `put` or `remove` lies within the capacity. `version` is
    that of the encoder, "" where there is none.
    """

    def __init__(self, capacity: int = 1024, version: str = "") -> None:
        self.version = version
        self.vectors: FloatArray = np.zeros((capacity, DIMENSIONS), np.float32)
        self.has_vector: BoolArray = np.zeros(capacity, np.bool_)

    def put(self, slot: int, vector: FloatArray) -> None:
        """Add or replace the vector [384] of a slot."""
        self._reach(slot)
        self.vectors[slot] = vector
        self.has_vector[slot] = True

    def remove(self, slot: int) -> None:
        """Let a slot have no vector."""
        self._reach(slot)
        self.vectors[slot] = 0.0
        self.has_vector[slot] = False

    def _reach(self, slot: int) -> None:
        while slot >= len(self.has_vector):
            self.vectors, self.has_vector = doubled(self.vectors), doubled(self.has_vector)


def near_together(slots: IntArray, vectors: FloatArray) -> IntArray:
    """Put slots [n] in an order in which those of near vectors follow one another, mostly.

    A graph that takes them in that order is made from what the processor's caches hold, and keeps side by
    side what a search looks at together. The order is by the nearest of about sqrt(n) of the vectors.

    Args:
        vectors: by slot [capacity, dimensions].
    """
    leaders = vectors[slots[:: math.isqrt(len(slots)) or 1]].T
    nearest = [
        (vectors[slots[start : start + COMPARED_AT_ONCE]] @ leaders).argmax(axis=1)
        for start in range(0, len(slots), COMPARED_AT_ONCE)
    ]
    return slots[np.argsort(np.concatenate(nearest), kind="stable")] if nearest else slots
