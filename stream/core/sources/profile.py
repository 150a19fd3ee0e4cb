"""What came near the items that the shopper touched before the session, in the sessions of others."""

from __future__ import annotations

from stream.core.sources.source import Source

LIMIT = 30

PROFILE = Source("profile", ("shopper", "rows"), LIMIT, lambda evidence: evidence.neighbours.of_past(LIMIT))
