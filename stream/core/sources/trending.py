"""What trends in the whole shop."""

from __future__ import annotations

from stream.core.sources.source import Source

LIMIT = 30

TRENDING = Source(
    "trending", ("popularity",), LIMIT, lambda evidence: evidence.context.trending.slots[:LIMIT]
)
