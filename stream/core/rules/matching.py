"""What items a rule is about."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import Meta

from stream.core.events import Id
from stream.core.items import Item

PATH = " > "
"""Between the parts of a category's path."""

Word = Annotated[str, Meta(min_length=1, max_length=500)]
Amount = Annotated[float, Meta(ge=0)]


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Items by what they are: every field that is given must hold, within a field any of its values.

    Brands and attributes are compared without regard to case. Nothing given matches every item.
    """

    item_ids: tuple[Id, ...] = ()
    """These very items."""
    brands: tuple[Word, ...] = ()
    """Items of one of these brands."""
    categories: tuple[Word, ...] = ()
    """Items whose category path is or lies below one of these, such as "Home > Mugs"."""
    min_price: Amount | None = None
    """Items that cost at least this; one without a price does not match."""
    max_price: Amount | None = None
    """Items that cost at most this; one without a price does not match."""
    attributes: dict[Word, tuple[Word, ...]] = {}
    """Items with one of these values of an attribute, for every attribute named."""

    def __post_init__(self) -> None:
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError(f"min_price {self.min_price:g} is above max_price {self.max_price:g}")

    @property
    def specificity(self) -> int:
        """2 where items are named, 1 where anything else is, 0 where every item matches."""
        return 2 if self.item_ids else int(self != EVERYTHING)

    def holds(self, item: Item) -> bool:
        """Whether an item is meant."""
        if self is EVERYTHING:
            return True
        if self.item_ids and item.item_id not in self.item_ids:
            return False
        if self.brands and item.brand.casefold() not in _folded(self.brands):
            return False
        if self.categories and not any(within(item.category, path) for path in self.categories):
            return False
        if self.min_price is not None and not (item.price is not None and item.price >= self.min_price):
            return False
        if self.max_price is not None and not (item.price is not None and item.price <= self.max_price):
            return False
        return all(
            item.attributes.get(name, "").casefold() in _folded(values)
            for name, values in self.attributes.items()
        )


EVERYTHING = Match()


@lru_cache(maxsize=10_000)
def _folded(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word.casefold() for word in words)


def within(category: str, path: str) -> bool:
    """Whether a category is a path or lies below it."""
    return category == path or category.startswith(path + PATH)
