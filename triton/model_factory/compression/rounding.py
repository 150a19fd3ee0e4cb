"""Weights in 8 bits: symmetric, with a scale of its own for each column or row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rounded = tuple[NDArray[np.int8], NDArray[np.float32]]

PRODUCT_BITS = 63
"""Largest rounded weight of a product: 7 bits with the sign.

Processors without VNNI add two products of an unsigned and a signed byte in 16 bits, which 8-bit weights
would overflow; so all processors give the same vectors.
"""


def by_column(weight: NDArray[np.float32]) -> Rounded:
    """Round what will be multiplied with: weights [in, out] and scales [out]."""
    largest = np.abs(weight).max(axis=0)
    scales = (np.where(largest > 0, largest, 1) / PRODUCT_BITS).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales


def by_row(table: NDArray[np.float32]) -> Rounded:
    """Round what will be looked up: values [n, width] and scales [n, 1]."""
    largest = np.abs(table).max(axis=1, keepdims=True)
    scales = (np.where(largest > 0, largest, 1) / 127).astype(np.float32)
    return np.rint(table / scales).astype(np.int8), scales
