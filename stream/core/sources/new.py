"""What is new in the shop."""

from __future__ import annotations

from stream.core.sources.source import Source

LIMIT = 15

NEW = Source("new", ("catalogue",), LIMIT, lambda evidence: evidence.context.new_items[:LIMIT])
