"""What trends in the whole shop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.core.context import Context
from stream.core.sources.source import Say, Source
from stream.core.wording import short

if TYPE_CHECKING:
    from stream.core.candidates import Candidates

LIMIT = 30


def _reason(context: Context, candidates: Candidates, position: int, item_id: str) -> str:
    if candidates.by("trending")[position]:
        return "popular right now"
    return f"popular in {short(context.items.at(int(candidates.slots[position])).category)}"


TRENDING = Source(
    "trending",
    ("popularity",),
    LIMIT,
    lambda evidence: evidence.context.trending.slots[:LIMIT],
    Say(
        lambda grounds: grounds.candidates.by("trending") | grounds.candidates.by("trending_in_category"),
        _reason,
    ),
)
