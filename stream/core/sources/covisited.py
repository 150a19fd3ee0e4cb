"""What came near the session's items in the sessions of others."""

from __future__ import annotations

from stream.core.sources.source import Say, Source, strongest
from stream.core.wording import did

LIMIT = 120

COVISITED = Source(
    "covisited",
    ("rows",),
    LIMIT,
    lambda evidence: evidence.neighbours.of_session(LIMIT),
    Say(
        lambda grounds: (grounds.carried > 0).any(axis=0) & grounds.unseen,
        lambda context, candidates, position, item_id: f"because you {did(context, item_id)}",
        row=lambda grounds: strongest(grounds.carried),
    ),
)
