"""Demand a margin."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stream.core.items import Item
from stream.core.rules.rule import Rule


class MinMargin(Rule, tag="min_margin", frozen=True, kw_only=True):
    """Items that match are in lists only where the shop earns enough; one of unknown margin is kept out.

    The margin is the number `attributes.margin` of the item's message.
    """

    stage = "bar"

    margin: Annotated[float, Meta(ge=-1_000_000_000, le=1_000_000_000)]
    """The least margin, in the unit that the shop gives its margins in."""

    def concerns(self, item: Item) -> bool:
        """Whether an item is kept out."""
        return self.where.holds(item) and (item.margin is None or item.margin < self.margin)
