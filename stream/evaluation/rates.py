"""What came of lists, counted: rates by source, version, position, policy and placement, with intervals.

The unit is one place of one list. It was shown where an impression says so, and its rate of clicks is the
share of shown places that were clicked at least once; carts and purchases likewise. What a click tells of a
place that no impression told of is counted apart, since nobody knows how many such places there were.

Intervals are Wilson's at 95 % (E. B. Wilson, "Probable inference, the law of succession, and statistical
inference", 1927), and of differences Newcombe's hybrid of two of them (R. G. Newcombe, "Interval estimation
for the difference between independent proportions", 1998, method 10). They take places for independent;
those of one shopper are not quite, so the true intervals are somewhat wider.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from stream.core.events import OUTCOMES, Attribution

Z = 1.959963984540054
"""The normal quantile of 95 %, two-sided."""
NONE = "(none)"
"""The group of lists that a model had no part in, and of policies without a name."""

_BITS: dict[str, int] = {outcome: 1 << number for number, outcome in enumerate(OUTCOMES)}
_SHOWN = _BITS["impression"]


class Rate(msgspec.Struct, frozen=True):
    """A share with its interval; `value`, `low` and `high` are None where nothing was shown."""

    hits: int
    of: int
    value: float | None
    low: float | None
    high: float | None


class Group(msgspec.Struct, frozen=True):
    """The places of one group: how many were shown, and what share of them had which outcome."""

    name: str
    shown: int
    click: Rate
    cart: Rate
    purchase: Rate


class Difference(msgspec.Struct, frozen=True):
    """The rate of clicks of one group less that of another."""

    of: str
    less: str
    value: float
    low: float
    high: float


class Sight(msgspec.Struct, frozen=True):
    """How much a place is clicked for being where it is, relative to the first one.

    `relative` compares the same items at neighbouring places, step by step from the first; it is None from
    the first step on for which no click tells. `items` were shown both here and one place higher.
    """

    rank: int
    items: int
    relative: float | None


class Summary(msgspec.Struct, frozen=True):
    """All that a report says; `groups` are by dimension, times are epoch milliseconds of lists made."""

    records: int
    repeated: int
    automated: int
    lists: int
    shoppers: int
    first_ms: int | None
    last_ms: int | None
    total: Group
    not_shown: dict[str, int]
    """Places with an outcome that no impression told of, by outcome."""
    value: dict[str, float]
    """What the items of attributed purchases cost, by currency."""
    groups: dict[str, list[Group]]
    differences: dict[str, list[Difference]]
    sight: list[Sight]


class _Place:
    __slots__ = ("bits", "explored", "item_id", "source")

    def __init__(self, item_id: str, source: str, explored: bool) -> None:
        self.item_id = item_id
        self.source = source
        self.explored = explored
        self.bits = 0


class _List:
    __slots__ = ("made_ms", "placement", "places", "policy", "versions")

    def __init__(self, record: Attribution) -> None:
        self.placement = record.placement
        self.policy = record.policy or NONE
        self.made_ms = record.generated_at
        self.versions = record.model_versions
        self.places: dict[int, _Place] = {}


Key = Callable[[_List, int, _Place], str]
_KEYS: dict[str, Key] = {
    "position": lambda one, rank, place: str(rank),
    "source": lambda one, rank, place: place.source,
    "reranker": lambda one, rank, place: one.versions.get("reranker", NONE),
    "encoder": lambda one, rank, place: one.versions.get("encoder", NONE),
    "policy": lambda one, rank, place: one.policy,
    "placement": lambda one, rank, place: one.placement,
    "explored": lambda one, rank, place: "explored" if place.explored else "not explored",
    "day": lambda one, rank, place: datetime.fromtimestamp(one.made_ms / 1000, UTC).date().isoformat(),
}
DIMENSIONS = tuple(_KEYS)
COMPARED = ("reranker", "encoder", "policy", "explored")
"""Dimensions whose groups are set against the largest one."""
_IN_ORDER = ("position", "day")


class Tally:
    """Take in attributions in any order; a repeated one counts once.

    Args:
        from_ms, to_ms: only lists made from the one time on and before the other.
        placement: only lists for this placement.

    Memory grows with the distinct records: about 150 bytes for each, and as much for each place told of.
    """

    def __init__(
        self, from_ms: int | None = None, to_ms: int | None = None, placement: str | None = None
    ) -> None:
        self._from_ms = from_ms
        self._to_ms = to_ms
        self._placement = placement
        self._seen: set[str] = set()
        self._users: set[str] = set()
        self._lists: dict[str, _List] = {}
        self._value: dict[str, float] = {}
        self._repeated = 0
        self._automated = 0

    def add(self, record: Attribution) -> None:
        """Count one record."""
        if (
            (self._from_ms is not None and record.generated_at < self._from_ms)
            or (self._to_ms is not None and record.generated_at >= self._to_ms)
            or (self._placement is not None and record.placement != self._placement)
        ):
            return
        if record.attribution_id in self._seen:
            self._repeated += 1
            return
        self._seen.add(record.attribution_id)
        if record.automated:
            self._automated += 1
            return
        self._users.add(record.user_id)
        one = self._lists.get(record.recommendation_id)
        if one is None:
            one = self._lists[record.recommendation_id] = _List(record)
        for item in record.items:
            place = one.places.get(item.rank)
            if place is None:
                place = one.places[item.rank] = _Place(item.item_id, item.source, item.explored)
            place.bits |= _BITS[record.outcome]
        if record.value is not None:
            currency = record.currency or NONE
            self._value[currency] = self._value.get(currency, 0.0) + record.value

    def summary(self) -> Summary:
        """Say what was counted."""
        counts: dict[str, dict[str, list[int]]] = {dimension: {} for dimension in DIMENSIONS}
        total = [0] * len(OUTCOMES)
        not_shown: dict[str, int] = dict.fromkeys(OUTCOMES[1:], 0)
        by_item: dict[int, dict[str, list[int]]] = {}
        for one in self._lists.values():
            for rank, place in one.places.items():
                if not place.bits & _SHOWN:
                    for outcome in not_shown:
                        not_shown[outcome] += bool(place.bits & _BITS[outcome])
                    continue
                rows = [
                    counts[dimension].setdefault(key(one, rank, place), [0] * len(OUTCOMES))
                    for dimension, key in _KEYS.items()
                ]
                item = by_item.setdefault(rank, {}).setdefault(place.item_id, [0, 0])
                item[0] += 1
                item[1] += bool(place.bits & _BITS["click"])
                for row in (total, *rows):
                    for number in range(len(OUTCOMES)):
                        row[number] += place.bits >> number & 1
        groups = {
            dimension: _sorted(dimension, (_group(name, row) for name, row in by_name.items()))
            for dimension, by_name in counts.items()
        }
        made_ms = [one.made_ms for one in self._lists.values()]
        return Summary(
            records=len(self._seen),
            repeated=self._repeated,
            automated=self._automated,
            lists=len(self._lists),
            shoppers=len(self._users),
            first_ms=min(made_ms, default=None),
            last_ms=max(made_ms, default=None),
            total=_group("all", total),
            not_shown=not_shown,
            value={currency: round(value, 2) for currency, value in sorted(self._value.items())},
            groups=groups,
            differences={dimension: _differences(groups[dimension]) for dimension in COMPARED},
            sight=_sight(by_item),
        )


def wilson(hits: int, of: int) -> Rate:
    """A share with Wilson's interval at 95 %."""
    if not of:
        return Rate(hits, of, None, None, None)
    share = hits / of
    middle = share + Z * Z / (2 * of)
    half = Z * math.sqrt(share * (1 - share) / of + Z * Z / (4 * of * of))
    scale = 1 + Z * Z / of
    return Rate(hits, of, share, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def difference(one: Group, other: Group) -> Difference | None:
    """How much more often one group is clicked, with Newcombe's interval; None where nothing was shown."""
    if not one.shown or not other.shown:
        return None
    first, first_low, first_high = _interval(one.click)
    second, second_low, second_high = _interval(other.click)
    return Difference(
        one.name,
        other.name,
        first - second,
        first - second - math.hypot(first - first_low, second_high - second),
        first - second + math.hypot(first_high - first, second - second_low),
    )


def _sight(by_item: Mapping[int, Mapping[str, Sequence[int]]]) -> list[Sight]:
    """How much less a place is looked at than the first, told apart from how good its items are.

    Items that stood at two neighbouring places in different lists are compared with themselves, each with
    the smaller of its two numbers of showings as weight; the ratios are multiplied from the first place on
    (A. Agarwal et al., "Estimating position bias without intrusive interventions", WSDM 2019: the chain
    of adjacent positions).

    Args:
        by_item: by rank and item id, how often it was shown there and how often clicked.
    """
    relative: float | None = 1.0
    found = []
    for rank in range(1, max(by_item, default=0) + 1):
        here, above = by_item.get(rank, {}), by_item.get(rank - 1, {})
        shared = here.keys() & above.keys()
        if rank > 1:
            clicks = [0.0, 0.0]
            for item_id in sorted(shared):
                weight = min(here[item_id][0], above[item_id][0])
                for side, (shown, clicked) in enumerate((here[item_id], above[item_id])):
                    clicks[side] += weight * clicked / shown
            relative = relative * clicks[0] / clicks[1] if relative is not None and all(clicks) else None
        found.append(Sight(rank, len(shared), relative))
    return found


def _interval(rate: Rate) -> tuple[float, float, float]:
    """The share and its bounds; where nothing was shown anything may be true."""
    if rate.value is None or rate.low is None or rate.high is None:
        return 0.0, 0.0, 1.0
    return rate.value, rate.low, rate.high


def _group(name: str, row: list[int]) -> Group:
    shown = row[0]
    return Group(name, shown, *(wilson(hits, shown) for hits in row[1:]))


def _sorted(dimension: str, groups: Iterable[Group]) -> list[Group]:
    """Positions and days in their order, all others with the largest group first."""
    if dimension in _IN_ORDER:
        return sorted(groups, key=lambda group: (len(group.name), group.name))
    return sorted(groups, key=lambda group: (-group.shown, group.name))


def _differences(groups: list[Group]) -> list[Difference]:
    """Every other group against the largest."""
    found = (difference(group, groups[0]) for group in groups[1:])
    return [one for one in found if one is not None]
