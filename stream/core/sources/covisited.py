"""What came near the session's items in the sessions of others."""

from __future__ import annotations

from stream.core.sources.source import Source

LIMIT = 120

COVISITED = Source("covisited", ("rows",), LIMIT, lambda evidence: evidence.neighbours.of_session(LIMIT))
