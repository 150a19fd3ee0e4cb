"""What is new in the shop."""

from __future__ import annotations

from stream.core.sources.source import Say, Source

LIMIT = 15

NEW = Source(
    "new",
    ("catalogue",),
    LIMIT,
    lambda evidence: evidence.context.new_items[:LIMIT],
    Say(
        lambda grounds: grounds.candidates.by("new"),
        lambda context, candidates, position, item_id: "new in the shop",
        last_resort=True,
    ),
)
