"""How like a candidate's text is to all that is remembered of a shopper."""

from __future__ import annotations

from stream.core import sources
from stream.core.features.columns import Columns, Group
from stream.core.items import FloatArray


def _compute(columns: Columns, table: FloatArray) -> None:
    table[0] = columns.candidates.cosine_taste


TASTE = Group("taste", ("similarity_taste",), ("shopper", "vectors"), sources.TASTE, _compute)
