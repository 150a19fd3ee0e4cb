"""How like a candidate's text is to those of the session's items."""

from __future__ import annotations

from stream.core.features.columns import Columns, Group
from stream.core.items import FloatArray
from stream.core.sources import SIMILAR


def _compute(columns: Columns, table: FloatArray) -> None:
    if columns.rows:
        table[0] = columns.candidates.cosine_rows[0]
        table[1] = columns.candidates.cosine_rows.max(axis=0)
    table[2] = columns.candidates.cosine_session


LIKENESS = Group(
    "likeness",
    ("similarity_last", "similarity_best", "similarity_session"),
    ("vectors",),
    SIMILAR,
    _compute,
)
