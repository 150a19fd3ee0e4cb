"""Demand a quality of text."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stream.core.items import Item
from stream.core.rules.rule import Rule


class MinQuality(Rule, tag="min_quality", frozen=True, kw_only=True):
    """Items that match are in lists only where their text scores enough in `stream.core.quality`."""

    stage = "bar"

    quality: Annotated[float, Meta(ge=0, le=1)]
    """The least score, 0 to 1; below `policy.min_quality` it changes nothing."""

    def concerns(self, item: Item) -> bool:
        """Whether an item is kept out."""
        return self.where.holds(item) and item.quality < self.quality
