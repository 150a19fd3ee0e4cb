"""How much is done with a candidate, in the long and in the short run, beside the list's most popular."""

from __future__ import annotations

import numpy as np

from stream.core.evidence import SHRINK
from stream.core.features.columns import Columns, Group
from stream.core.items import FloatArray
from stream.core.sources import TRENDING


def _compute(columns: Columns, table: FloatArray) -> None:
    popularity = columns.popularity
    levels = np.log1p(popularity.T)
    table[:4] = levels - levels.max(axis=1, initial=0.0, keepdims=True)
    table[5] = np.log((popularity[:, 0] + 0.3) / (popularity[:, 2] + 1.0))
    table[4] = np.log((popularity[:, 1] + 1.0) / (popularity[:, 3] + np.float32(SHRINK)))


POPULARITY = Group(
    "popularity",
    ("popularity_1", "popularity_10", "popularity_30", "popularity_120", "trend", "trend_1"),
    ("popularity",),
    TRENDING,
    _compute,
)
