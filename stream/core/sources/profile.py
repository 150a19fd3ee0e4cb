"""What came near the items that the shopper touched before the session, in the sessions of others."""

from __future__ import annotations

from stream.core.sources.source import Say, Source, strongest
from stream.core.wording import did

LIMIT = 30

PROFILE = Source(
    "profile",
    ("shopper", "rows"),
    LIMIT,
    lambda evidence: evidence.neighbours.of_past(LIMIT),
    Say(
        lambda grounds: (grounds.pulls[len(grounds.carried) :] > 0).any(axis=0) & grounds.unseen,
        lambda context, candidates, position, item_id: f"because you {did(context, item_id)} before",
        row=lambda grounds: strongest(grounds.pulls[len(grounds.carried) :]) + len(grounds.carried),
    ),
)
