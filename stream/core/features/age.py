"""How long a candidate has been in the shop."""

from __future__ import annotations

from stream.core.features.columns import Columns, Group, log_days
from stream.core.items import FloatArray


def _compute(columns: Columns, table: FloatArray) -> None:
    first_seen_ms = columns.context.items.first_seen_ms.take(columns.candidates.slots)
    table[0] = log_days(columns.context.at_ms, first_seen_ms)


AGE = Group("age", ("item_age",), ("catalogue",), None, _compute)
