"""How a candidate came near what the shopper touched before the session, in the sessions of others."""

from __future__ import annotations

from stream.core import sources
from stream.core.features.columns import Columns, Group, log_and_ratio
from stream.core.items import FloatArray


def _compute(columns: Columns, table: FloatArray) -> None:
    log_and_ratio(table, columns.both[columns.rows :].sum(axis=0, keepdims=True))


PROFILE = Group(
    "profile", ("profile_log", "profile_ratio"), ("shopper", "rows", "popularity"), sources.PROFILE, _compute
)
