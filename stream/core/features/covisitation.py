"""How a candidate came before and after the session's items in the sessions of others."""

from __future__ import annotations

import numpy as np

from stream.core.features.columns import Columns, Group, log_and_ratio
from stream.core.items import FloatArray
from stream.core.sources import COVISITED

_LIFT_FLOOR = np.float32(1e-6)


def _compute(columns: Columns, table: FloatArray) -> None:
    rows = columns.rows
    sums = np.zeros((6, table.shape[1]), np.float32)
    if rows:
        both, recent = columns.both, columns.recent
        sums[0] = recent @ both
        sums[1] = columns.forward[0]
        sums[2] = columns.steady @ columns.forward
        sums[3] = recent @ columns.backward
        sums[4 : 3 + min(rows, 3)] = columns.forward[1 : min(rows, 3)]
        table[12] = np.log(((recent * columns.row) @ both) * columns.column + _LIFT_FLOOR)
        table[13] = (both > 0).sum(axis=0) / np.float32(rows)
    log_and_ratio(table[:12], sums)


COVISITATION = Group(
    "covisitation",
    (
        "covisit_log",
        "covisit_ratio",
        "next_log",
        "next_ratio",
        "forward_log",
        "forward_ratio",
        "backward_log",
        "backward_ratio",
        "second_log",
        "second_ratio",
        "third_log",
        "third_ratio",
        "lift_log",
        "support",
    ),
    ("rows", "popularity"),
    COVISITED,
    _compute,
)
