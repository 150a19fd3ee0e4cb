"""The rules on the very list: caps and pins, and the check that everything holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from stream.core.items import Item
from stream.core.rules.cap import Cap
from stream.core.rules.pin import Pin


class Arranged(NamedTuple):
    """A list as the rules want it.

    `places` are positions in the order that was given, first place first; `pinned` is by such a position
    the pin that put it there; `warnings` are sentences that begin with the id of a rule.
    """

    places: list[int]
    pinned: dict[int, str]
    warnings: list[str]


def arrange(
    order: Sequence[Item],
    pins: Sequence[Pin],
    caps: Sequence[Cap],
    length: int,
    why_absent: Callable[[str], str],
) -> Arranged:
    """Take the best that the caps allow, and put the pinned at their places.

    Args:
        order: the items that may be in the list, best first.
        pins: by place.
        length: most items in the list.
        why_absent: says why an item id is not in `order`.

    A pinned item counts in its caps before the others do.
    """
    warnings: list[str] = []
    pinned: dict[int, int] = {}  # place from 1 -> position in order
    by_pin: dict[int, str] = {}
    counts = _Counts(caps)
    found = {item.item_id: at for at, item in enumerate(order)} if pins else {}
    for pin in pins:
        at = found.get(pin.item_id)
        reason = ""
        if pin.position > length:
            reason = f"a list has {length} places"
        elif pin.position in pinned:
            reason = f"{by_pin[pinned[pin.position]]} has that place"
        elif at is None:
            reason = why_absent(pin.item_id)
        elif at in by_pin:
            reason = f"{by_pin[at]} has put it elsewhere"
        elif full := counts.full_for(order[at]):
            reason = f"{full} allows no more like it"
        if reason or at is None:
            warnings.append(f"{pin.id}: {pin.item_id} is not at place {pin.position}: {reason}")
            continue
        pinned[pin.position], by_pin[at] = at, pin.id
        counts.add(order[at])
    free, over = _best(order, by_pin, counts, length - len(pinned))
    places: list[int] = []
    waiting = iter(free)
    for place in range(1, len(pinned) + len(free) + 1):
        at = pinned.pop(place, None)
        if at is None:
            at = next(waiting, None)
        if at is None:  # nothing is left before the next pin: it cannot be where it should
            break
        places.append(at)
    for place, at in sorted(pinned.items()):
        item_id = order[at].item_id
        reason = f"the list has only {len(places)} items"
        warnings.append(f"{by_pin.pop(at)}: {item_id} is not at place {place}: {reason}")
    if len(places) < length:
        warnings += [
            f"{rule}: leaves the list at {len(places)} of {length} items, {count} more were over its limit"
            for rule, count in over.items()
        ]
    return Arranged(places, by_pin, warnings)


def _best(
    order: Sequence[Item], taken: dict[int, str], counts: _Counts, limit: int
) -> tuple[list[int], Counter[str]]:
    """The best positions that the caps allow, and how many items each cap kept out."""
    free: list[int] = []
    over: Counter[str] = Counter()
    for at, item in enumerate(order):
        if len(free) >= limit:
            break
        if at in taken:
            continue
        if full := counts.full_for(item):
            over[full] += 1
            continue
        counts.add(item)
        free.append(at)
    return free, over


def with_room(kept: Sequence[Item], caps: Sequence[Cap], items: Sequence[Item], coming: int) -> list[bool]:
    """Which items may join a list, whichever `coming` of them do, so that its caps still hold.

    Args:
        kept: what of the list stays.
    """
    counts = _Counts(caps)
    for item in kept:
        counts.add(item)
    return [not counts.full_for(item, coming) for item in items]


class _Counts:
    """How many items of each group a list holds."""

    def __init__(self, caps: Sequence[Cap]) -> None:
        self._caps = [(cap, defaultdict[str, int](int)) for cap in caps]

    def full_for(self, item: Item, coming: int = 1) -> str:
        """The cap that leaves no room for an item, or for so many like it, "" where there is room."""
        for cap, held in self._caps:
            group = cap.group(item)
            if group is not None and held[group] + coming > cap.limit:
                return cap.id
        return ""

    def add(self, item: Item) -> None:
        for cap, held in self._caps:
            group = cap.group(item)
            if group is not None:
                held[group] += 1


def broken(items: Sequence[Item], pins: Sequence[tuple[str, int]], caps: Sequence[Cap]) -> list[str]:
    """What a finished list does against the rules, as sentences; nothing where all hold.

    Args:
        items: the list, first place first.
        pins: item ids with the places, from 1, that they must have.
    """
    wrong = [
        f"{item_id} is not at place {place}"
        for item_id, place in pins
        if place > len(items) or items[place - 1].item_id != item_id
    ]
    for cap in caps:
        held = Counter(group for item in items if (group := cap.group(item)) is not None)
        wrong += [f"{cap.id}: {count} of {group}" for group, count in held.items() if count > cap.limit]
    if len({item.item_id for item in items}) < len(items):
        wrong.append("an item is there twice")
    return wrong
