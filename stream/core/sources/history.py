"""What the shopper bought or looked at before the session, newest first."""

from __future__ import annotations

from stream.core.sources.source import Say, Source

LIMIT = 100

HISTORY = Source(
    "history",
    ("shopper",),
    LIMIT,
    lambda evidence: evidence.history.slots[:LIMIT],
    Say(
        lambda grounds: (grounds.candidates.touched_ms > 0) & grounds.unseen,
        lambda context, candidates, position, item_id: (
            "you bought it before" if candidates.bought_ms[position] else "you looked at it before"
        ),
        itself=True,
    ),
)
