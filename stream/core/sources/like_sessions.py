"""What came near the session's items in those sessions of others that are most like it."""

from __future__ import annotations

from stream.core.sources.source import Source

LIMIT = 60

LIKE_SESSIONS = Source(
    "like_sessions",
    ("rows", "popularity"),
    LIMIT,
    lambda evidence: evidence.neighbours.of_like_sessions(LIMIT),
    cause="covisited",
)
