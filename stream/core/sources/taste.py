"""The items nearest to the vector of all that is remembered of a shopper."""

from __future__ import annotations

from stream.core.sources.source import Source

LIMIT = 20

TASTE = Source(
    "taste", ("shopper", "vectors"), LIMIT, lambda evidence: evidence.context.near_taste.nearest(LIMIT)
)
