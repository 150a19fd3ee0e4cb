"""What the shopper did with a candidate before the session."""

from __future__ import annotations

import numpy as np

from stream.core import sources
from stream.core.features.columns import Columns, Group, log_days
from stream.core.items import FloatArray
from stream.core.policy import DAY_MS


def _compute(columns: Columns, table: FloatArray) -> None:
    candidates, at_ms = columns.candidates, columns.context.at_ms
    near, visits_ago, visits_with = candidates.past[1:3], candidates.past[4], candidates.past[5]
    touched = candidates.touched_ms > 0
    table[0] = candidates.bought_ms > 0
    table[1] = log_days(at_ms, candidates.bought_ms)
    table[2] = log_days(at_ms, candidates.touched_ms)
    table[[3, 4, 6, 8]] = np.log1p(candidates.past[:4])
    table[5:8:2] = near / np.maximum(near.max(axis=1, initial=0.0, keepdims=True), 1e-9)
    table[9] = (visits_ago > 0) / np.maximum(visits_ago, 1.0)
    table[10] = visits_with / np.float32(max(candidates.visits, 1))
    days = np.maximum(at_ms - candidates.touched_ms, 0) / DAY_MS
    table[11] = np.where(touched, np.log((days + 1.0) / (candidates.rhythm_days + 1.0)), 0.0)


HISTORY = Group(
    "history",
    (
        "bought",
        "bought_age",
        "touched_age",
        "touches",
        "transition_log",
        "transition_ratio",
        "followed_log",
        "followed_ratio",
        "followed_newest",
        "visits_ago",
        "visits_share",
        "cycles",
    ),
    ("shopper",),
    sources.HISTORY,
    _compute,
)
