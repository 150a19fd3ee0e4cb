"""The items nearest to the vector of all that is remembered of a shopper."""

from __future__ import annotations

from stream.core.sources.similar import CLOSE_TO_ITEM
from stream.core.sources.source import Say, Source

LIMIT = 20

TASTE = Source(
    "taste",
    ("shopper", "vectors"),
    LIMIT,
    lambda evidence: evidence.context.near_taste.nearest(LIMIT),
    Say(
        lambda grounds: (grounds.candidates.cosine_taste >= CLOSE_TO_ITEM) & grounds.unseen,
        lambda context, candidates, position, item_id: "similar to what you looked at before",
    ),
)
