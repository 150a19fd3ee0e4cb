"""What the shopper did with a candidate before the session."""

from __future__ import annotations

import numpy as np

from stream.core import sources
from stream.core.features.columns import Columns, Group, log_days
from stream.core.items import FloatArray


def _compute(columns: Columns, table: FloatArray) -> None:
    candidates, at_ms = columns.candidates, columns.context.at_ms
    table[0] = candidates.bought_ms > 0
    table[1] = log_days(at_ms, candidates.bought_ms)
    table[2] = log_days(at_ms, candidates.touched_ms)
    table[3] = np.log1p(candidates.touches)
    table[4] = np.log1p(candidates.transition)
    table[5] = candidates.transition / max(float(candidates.transition.max(initial=0.0)), 1e-9)


HISTORY = Group(
    "history",
    ("bought", "bought_age", "touched_age", "touches", "transition_log", "transition_ratio"),
    ("shopper",),
    sources.HISTORY,
    _compute,
)
