"""What comes right after the newest item, and what goes with the session's items these weeks."""

from __future__ import annotations

import numpy as np

from stream.core.features.columns import Columns, Group, log_and_ratio
from stream.core.items import FloatArray
from stream.core.sources import COVISITED

_SHARE_FLOOR = np.float32(1e-3)


def _compute(columns: Columns, table: FloatArray) -> None:
    candidates = columns.candidates
    following = candidates.following * columns.column
    if columns.rows:
        following = following * columns.row[0]
    log_and_ratio(table[:4], np.stack([following, candidates.recent]))
    table[4] = np.log(candidates.following_share + _SHARE_FLOOR)


FOLLOWING = Group(
    "following",
    ("following_log", "following_ratio", "recent_log", "recent_ratio", "following_share"),
    ("rows", "popularity"),
    COVISITED,
    _compute,
)
