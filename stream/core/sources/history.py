"""What the shopper bought or looked at before the session, newest first."""

from __future__ import annotations

from stream.core.sources.source import Source

LIMIT = 100

HISTORY = Source("history", ("shopper",), LIMIT, lambda evidence: evidence.history.slots[:LIMIT])
