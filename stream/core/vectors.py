"""The vectors of the items by slot, as one version of the encoder made them."""

from __future__ import annotations

import numpy as np

from stream.core.items import DIMENSIONS, BoolArray, FloatArray


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
            more = len(self.has_vector)
            self.vectors = np.concatenate([self.vectors, np.zeros((more, DIMENSIONS), np.float32)])
            self.has_vector = np.concatenate([self.has_vector, np.zeros(more, np.bool_)])
