"""Demand a price within bounds."""

from __future__ import annotations

from stream.core.items import Item
from stream.core.rules.matching import Amount
from stream.core.rules.rule import Rule


class PriceRange(Rule, tag="price_range", frozen=True, kw_only=True):
    """Items that match are in lists only at a price within bounds; one without a price is kept out."""

    stage = "bar"

    min: Amount | None = None
    """The least price, in the currency of the catalogue."""
    max: Amount | None = None
    """The highest price, in the currency of the catalogue."""

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise ValueError("min and max are both missing: give one of them, or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")

    def concerns(self, item: Item) -> bool:
        """Whether an item is kept out."""
        if not self.where.holds(item):
            return False
        if item.price is None:
            return True
        return (self.min is not None and item.price < self.min) or (
            self.max is not None and item.price > self.max
        )
