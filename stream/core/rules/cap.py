"""Limit how many items of a kind a list holds."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from stream.core.items import Item
from stream.core.rules.matching import PATH
from stream.core.rules.rule import Rule


class Cap(Rule, tag="cap", frozen=True, kw_only=True):
    """Of the items that match, a list holds at most so many of one brand, of one category, or in all.

    Items without a brand, or without a category, are not counted by it.
    """

    stage = "cap"

    limit: Annotated[int, Meta(ge=0, le=1_000)]
    """Most items of one group in a list."""
    by: Literal["brand", "category", "all"] = "all"
    """What makes a group."""
    levels: Annotated[int, Meta(ge=0, le=32)] = 0
    """With `by = "category"`: how many parts of the path make the group; 0: the whole path."""

    def group(self, item: Item) -> str | None:
        """The group in which an item counts, None where it counts in none."""
        if not self.where.holds(item):
            return None
        if self.by == "brand":
            return item.brand.casefold() or None
        if self.by == "category":
            path = PATH.join(item.category.split(PATH)[: self.levels]) if self.levels else item.category
            return path or None
        return "all"
