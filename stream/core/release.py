"""The differentially private release of what shoppers teach about items: what is counted, and what it costs.

Time is cut into periods. Of a period the release counts, for each item and for each two items, how many
shoppers touched them and brought them together (`Counts`). A shopper is in no count twice, and in at most
`items` and `pairs` of them, chosen by what they did themselves: so the counts with and without all that one
shopper did in a period differ by 1, in no more than `items + pairs` places. Noise that fits is added
once, to all items of the catalogue and to the pairs that there are (`stream.ports.Noise`). What is done with
noised counts afterwards (`fold_released`) tells nothing more.

A period is released once. What releases of several periods tell together adds up (`spent`).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from stream.core.policy import DAY_MS, ReleasePolicy
from stream.core.signals import EMPTY, NEGLIGIBLE, SHOPPER_BITS, Increment, ItemSignals, fold

BETWEEN = "\x00"
"""Between the two items of a pair; an item's id holds no such character."""
SOURCE = "release"
"""Where increments of releases come from; their offset is the day on which the period ended."""


class Period(NamedTuple):
    """Whole days (UTC), as numbers since the epoch; `end_day` is the first one after it."""

    first_day: int
    end_day: int

    @property
    def begin_ms(self) -> int:
        """When it begins."""
        return self.first_day * DAY_MS

    @property
    def end_ms(self) -> int:
        """When it is over."""
        return self.end_day * DAY_MS

    def holds(self, at_ms: int) -> bool:
        """Whether a time is in it."""
        return self.begin_ms <= at_ms < self.end_ms


class Spent(msgspec.Struct, frozen=True):
    """One release: its period, what it may tell of a shopper, and how many counts it let through."""

    first_day: int
    end_day: int
    epsilon: float
    delta: float
    items: int
    pairs: int


class Ledger(msgspec.Struct, frozen=True):
    """All releases, oldest first, and the noised counts of the last one until lists can read them."""

    releases: tuple[Spent, ...] = ()
    waiting: dict[str, int] = {}


class Counts:
    """How many shoppers touched items, and brought two of them together, in one period."""

    def __init__(self, policy: ReleasePolicy) -> None:
        self._policy = policy
        self._items: dict[str, set[str]] = {}
        self._pairs: dict[str, dict[str, float]] = {}

    def add(self, shopper: str, taught: Mapping[str, Increment]) -> None:
        """Note what an event of a shopper taught about items, see `stream.core.signals.increments`."""
        items = self._items.setdefault(shopper, set())
        pairs = self._pairs.setdefault(shopper, {})
        for item_id, increment in taught.items():
            if increment.popularity > 0 and len(items) < self._policy.items:
                items.add(item_id)
            for other, weight in increment.forward:
                pair = BETWEEN.join(sorted((item_id, other)))
                pairs[pair] = max(weight, pairs.get(pair, 0.0))

    def bounded(self) -> dict[str, int]:
        """Count shoppers, by item and by pair: two ids in order with `BETWEEN` between them."""
        found: Counter[str] = Counter()
        for shopper, items in self._items.items():
            found.update(items)
            pairs = self._pairs[shopper]
            found.update(heapq.nsmallest(self._policy.pairs, pairs, key=lambda pair: (-pairs[pair], pair)))
        return dict(found)


def to_noise(counts: Mapping[str, int], catalogue: Collection[str]) -> tuple[list[int], dict[str, int]]:
    """What noise is added to: a count for each item of the catalogue, in its order, and the pairs there are.

    No shopper decides which items those are, and nothing is told of others. Of pairs they do.
    """
    return [counts.get(item_id, 0) for item_id in catalogue], {
        key: count for key, count in counts.items() if BETWEEN in key
    }


def period_of(at_ms: int, days: int) -> Period:
    """The period that a time is in; they follow one another from the epoch on."""
    number = at_ms // (days * DAY_MS)
    return Period(number * days, (number + 1) * days)


def spent_at(releases: Iterable[Spent], now_ms: int, days: int) -> tuple[float, float]:
    """Add up what was spent by the day of a time, as `spent` does by the first day of a period."""
    return spent(releases, period_of(now_ms, 1), days)


def spent(releases: Iterable[Spent], period: Period, days: int) -> tuple[float, float]:
    """Add up epsilon and delta of the releases whose periods begin less than `days` before a period."""
    since = [one for one in releases if one.first_day > period.first_day - days]
    return sum(one.epsilon for one in since), sum(one.delta for one in since)


def released_increments(counts: Mapping[str, float], period: Period) -> dict[str, Increment]:
    """What noised counts teach about each item, as if it had happened in the middle of the period.

    A pair counts half forward and half backward for both its items, since its order is not released.
    """
    popularity: dict[str, float] = {}
    pairs: dict[str, list[tuple[str, float]]] = {}
    for key, count in sorted(counts.items()):
        if count <= 0:
            continue
        one, _, other = key.partition(BETWEEN)
        if not other:
            popularity[one] = float(count)
            continue
        pairs.setdefault(one, []).append((other, count / 2))
        pairs.setdefault(other, []).append((one, count / 2))
    at_ms = (period.begin_ms + period.end_ms) // 2
    return {
        item_id: Increment(
            source=SOURCE,
            offset=period.end_day,
            at_ms=at_ms,
            popularity=popularity.get(item_id, 0.0),
            forward=pairs.get(item_id, []),
            backward=pairs.get(item_id, []),
        )
        for item_id in sorted(popularity.keys() | pairs.keys())
    }


def fold_released(row: ItemSignals | None, new: Increment) -> ItemSignals:
    """Add what a release teaches to a row that is made of releases alone; the same release once.

    Such rows do not tell what came right after the item, nor of single sessions. All their neighbours are
    seen: that there were enough shoppers is what the noise and its threshold see to.
    """
    before = row or EMPTY
    after = fold(before, [new])
    if after is before:
        return before
    count = len(after.neighbours)
    return after._replace(
        next=np.full(count, NEGLIGIBLE, np.float32),
        shoppers=np.full(count, (1 << SHOPPER_BITS) - 1, np.uint16),
    )


def count_kinds(keys: Iterable[str]) -> tuple[int, int]:
    """How many keys of counts are items, and how many are pairs."""
    pairs = [BETWEEN in key for key in keys]
    return len(pairs) - sum(pairs), sum(pairs)
