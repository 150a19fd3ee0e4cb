"""How much is known of a shopper, by which the network may weigh all else; the same for all candidates."""

from __future__ import annotations

import numpy as np

from stream.core.features.columns import Columns, Group
from stream.core.items import FloatArray


def _compute(columns: Columns, table: FloatArray) -> None:
    table[0] = np.log1p(columns.rows)
    table[1] = np.log1p((columns.candidates.touched_ms > 0).sum())
    table[2] = np.log1p(columns.candidates.visits)
    table[3] = np.log1p(columns.candidates.rhythm_days)


EXTENT = Group("extent", ("session_items", "history_items", "visits", "rhythm"), ("shopper",), None, _compute)
