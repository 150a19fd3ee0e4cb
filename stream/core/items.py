"""The catalogue in memory: item facts by slot, so that ranking is arithmetic on columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.policy import DEFAULT_POLICY

DIMENSIONS = 384
LARGEST_PRICE = float(np.finfo(np.float32).max)
"""Where products are compared, none costs more."""

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
BoolArray = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the engine keeps of a product; `category` is the path joined by " > "."""

    item_id: str
    title: str
    description: str = ""
    category: str = ""
    brand: str = ""
    price: float | None = None
    available: bool = True
    updated_ms: int = 0
    """Epoch ms of the product's last update."""
    first_seen_ms: int = 0
    """Epoch ms of the first message about it; what makes an item new."""
    quality: float = 1.0
    """How far its text can be trusted, 0..1; see `stream.core.quality`."""
    quality_findings: tuple[str, ...] = ()
    """What lowers it, gravest first."""
    text_quality: float | None = None
    """What it is by its text alone, where the fit counts too."""
    fit: float | None = None
    """How well category and brand fit the text, 0..1, by the cross-encoder; None until it has read them."""
    fit_version: str = ""
    """The version of the cross-encoder that read it."""
    margin: float | None = None
    """What the shop earns by it, as its `attributes.margin` says; rules may demand a least one."""
    attributes: dict[str, str] = {}
    """What rules can ask for beside the fields above: see `kept_attributes`."""

    @property
    def text(self) -> str:
        """What the encoder reads."""
        return f"{self.title} {self.description}".strip()


MAX_CATEGORIES = 65_536
"""Categories that are told apart while a worker lives; products of any further one count as without."""
ATTRIBUTES_KEPT = 20
ATTRIBUTE_CHARS = 100


def kept_attributes(attributes: Mapping[str, Any] | None) -> dict[str, str]:
    """The first 20 attributes of a product whose value is a text, a number or a truth, as short texts.

    A truth is "true" or "false". Longer names, and longer texts than 100 characters, are left out.
    """
    kept: dict[str, str] = {}
    for name, value in (attributes or {}).items():
        text = ""
        if isinstance(value, bool):
            text = str(value).lower()
        elif isinstance(value, str | int | float):
            text = str(value)
        if 0 < len(text) <= ATTRIBUTE_CHARS and 0 < len(name) <= ATTRIBUTE_CHARS:
            kept[name] = text
        if len(kept) == ATTRIBUTES_KEPT:
            break
    return kept


def margin_of(attributes: Mapping[str, Any] | None) -> float | None:
    """The number `margin` among a product's attributes, None where there is none."""
    margin = (attributes or {}).get("margin")
    if isinstance(margin, bool) or not isinstance(margin, int | float):
        return None
    try:
        number = float(margin)
    except OverflowError:  # an integer beyond all floats
        return None
    return number if math.isfinite(number) else None


class ItemTable:
    """Items by slot: a small integer that stays with an item until it is removed.

    A removed item's slot is used again; `generation` grows whenever that may make slots remembered
    elsewhere wrong. Not safe for concurrent writers; readers in the same thread see whole updates.

    Columns, each of shape [capacity]: `available` (may be in lists: the shop sells it, and it is not held
    back), `price` (NaN where unknown), `category` (see `category_names`), `first_seen_ms`, `freed_at` (the
    `generation` in which the slot last lost its item), `changed_at` (the `edition` in which the slot last
    changed; `edition` grows with every change). Vectors lie beside them, by version of the encoder: see
    `stream.core.vectors`.

    Args:
        min_quality: items of less quality are held back.
    """

    def __init__(self, capacity: int = 1024, min_quality: float = DEFAULT_POLICY.min_quality) -> None:
        self._min_quality = min_quality
        self.generation = 0
        self.edition = 0
        self._slots: dict[str, int] = {}
        self._items: list[Item | None] = []
        self._free: list[int] = []
        self.category_names: list[str] = [""]
        self._category_numbers: dict[str, int] = {"": 0}
        self.available: BoolArray = np.zeros(capacity, np.bool_)
        self.price: FloatArray = np.full(capacity, np.nan, np.float32)
        self.category: IntArray = np.zeros(capacity, np.int32)
        self.first_seen_ms: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.freed_at: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.changed_at: NDArray[np.int64] = np.zeros(capacity, np.int64)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._slots

    def __iter__(self) -> Iterator[Item]:
        return (item for item in self._items if item is not None)

    def slot(self, item_id: str) -> int | None:
        """The slot of an item, None where it is unknown."""
        return self._slots.get(item_id)

    def slots(self, item_ids: Iterable[str]) -> list[int | None]:
        """The slots of items, None for each that is unknown."""
        return list(map(self._slots.get, item_ids))

    def get(self, item_id: str) -> Item | None:
        """The item, None where it is unknown."""
        slot = self._slots.get(item_id)
        return None if slot is None else self._items[slot]

    def at(self, slot: int) -> Item:
        """The item in a slot.

        Raises:
            KeyError: the slot is free.
        """
        item = self._items[slot]
        if item is None:
            raise KeyError(slot)
        return item

    def occupant(self, slot: int) -> Item | None:
        """The item in a slot, None where it is free."""
        return self._items[slot] if slot < len(self._items) else None

    def offers(self, item_id: str) -> bool:
        """Whether an item is known and may be in lists."""
        slot = self._slots.get(item_id)
        return slot is not None and bool(self.available[slot])

    def held_back(self, item: Item) -> bool:
        """Whether an item's text is too bad for lists."""
        return item.quality < self._min_quality

    def put(self, item: Item) -> int:
        """Add or replace an item and return its slot."""
        slot = self._slots.get(item.item_id)
        if slot is None:
            if self._free:
                slot = self._free.pop()
            else:
                slot = len(self._items)
                self._items.append(None)
                if slot >= len(self.available):
                    self._grow()
            self._slots[item.item_id] = slot
        self._items[slot] = item
        self.available[slot] = item.available and not self.held_back(item)
        self.price[slot] = np.nan if item.price is None else min(item.price, LARGEST_PRICE)
        self.category[slot] = self._category_number(item.category)
        self.first_seen_ms[slot] = item.first_seen_ms
        self._note_change(slot)
        return slot

    def remove(self, item_id: str) -> int | None:
        """Forget an item and return the slot that became free, None where it was unknown."""
        slot = self._slots.pop(item_id, None)
        if slot is None:
            return None
        self._items[slot] = None
        self.available[slot] = False
        self._free.append(slot)
        self.generation += 1
        self.freed_at[slot] = self.generation
        self._note_change(slot)
        return slot

    def _note_change(self, slot: int) -> None:
        self.edition += 1
        self.changed_at[slot] = self.edition

    def _category_number(self, name: str) -> int:
        number = self._category_numbers.get(name)
        if number is None:
            if len(self.category_names) >= MAX_CATEGORIES:
                return 0
            number = self._category_numbers[name] = len(self.category_names)
            self.category_names.append(name)
        return number

    def _grow(self) -> None:
        self.price = np.concatenate([self.price, np.full_like(self.price, np.nan)])
        self.available = doubled(self.available)
        self.category = doubled(self.category)
        self.first_seen_ms = doubled(self.first_seen_ms)
        self.freed_at = doubled(self.freed_at)
        self.changed_at = doubled(self.changed_at)


def doubled(column: NDArray[Scalar]) -> NDArray[Scalar]:
    """As much again, of zeros, which take no memory before they are written."""
    more = np.zeros((2 * len(column), *column.shape[1:]), column.dtype)
    more[: len(column)] = column
    return more
