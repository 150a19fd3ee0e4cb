"""Put an item at a place."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stream.core.events import Id
from stream.core.items import Item
from stream.core.rules.matching import EVERYTHING
from stream.core.rules.rule import Rule


class Pin(Rule, tag="pin", frozen=True, kw_only=True):
    """An item has its place in every list, whether it was a candidate or not.

    It is not put there where it is unavailable, barred by another rule, over a cap, in the shopper's
    view or cart, or just bought; the list then says so.
    """

    stage = "pin"

    item_id: Id
    """The item."""
    position: Annotated[int, Meta(ge=1, le=1_000)]
    """Its place, from 1."""

    def __post_init__(self) -> None:
        if self.where != EVERYTHING:
            raise ValueError("where: a pin is about one item, which item_id names")

    def concerns(self, item: Item) -> bool:
        """Whether it is this item."""
        return item.item_id == self.item_id
