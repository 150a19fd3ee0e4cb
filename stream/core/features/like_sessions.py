"""How near a candidate came to the session's items in past sessions that are like this one."""

from __future__ import annotations

from stream.core import sources
from stream.core.features.columns import Columns, Group, log_and_ratio
from stream.core.items import FloatArray


def _compute(columns: Columns, table: FloatArray) -> None:
    log_and_ratio(table, (columns.candidates.companions * columns.column)[None])


LIKE_SESSIONS = Group(
    "like_sessions",
    ("companions_log", "companions_ratio"),
    ("rows", "popularity"),
    sources.LIKE_SESSIONS,
    _compute,
)
