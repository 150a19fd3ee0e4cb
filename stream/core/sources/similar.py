"""The items nearest to the session's vector."""

from __future__ import annotations

from stream.core.sources.source import Source

LIMIT = 40

SIMILAR = Source(
    "similar", ("vectors",), LIMIT, lambda evidence: evidence.context.near_session.nearest(LIMIT)
)
