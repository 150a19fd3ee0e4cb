"""The items nearest to the session's vector."""

from __future__ import annotations

from stream.core.sources.source import Say, Source, strongest
from stream.core.wording import title_of

LIMIT = 40

CLOSE_TO_ITEM = 0.43
"""The cosine from which two items are called similar.

95 % of random pairs lie below .43 in the gift shop of Online Retail II and below .38 in the Icecat catalogue.
"""

SIMILAR = Source(
    "similar",
    ("vectors",),
    LIMIT,
    lambda evidence: evidence.context.near_session.nearest(LIMIT),
    Say(
        lambda grounds: (grounds.likeness >= CLOSE_TO_ITEM).any(axis=0) & grounds.unseen,
        lambda context, candidates, position, item_id: f"similar to {title_of(context, item_id)}",
        row=lambda grounds: strongest(grounds.likeness),
    ),
)
