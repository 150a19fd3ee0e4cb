"""How well versions of the reranker do on the newest lists, each scored before it was learnt from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

AT = 20
SURE = 3.0
"""Standard errors between chance and a difference: more than two, since it is asked again and again."""

Entry = tuple[str, dict[str, int]]
"""A shopper, and where each contestant put the right item: from 1, 0 where it was no candidate."""


class Figures(NamedTuple):
    """Of one contestant over so many lists."""

    lists: int
    hr: float
    mrr: float


class Difference(NamedTuple):
    """MRR@20 of one contestant less that of another on the same lists, and what of it may be chance."""

    lists: int
    mean: float
    low: float
    high: float


class RunningFigures:
    """The newest lists and where every contestant put the right item."""

    def __init__(self, lists: int, entries: Iterable[Entry] = ()) -> None:
        self._entries: deque[Entry] = deque(entries, maxlen=lists)

    def add(self, shopper: str, ranks: Mapping[str, int]) -> None:
        """Note a list."""
        self._entries.append((shopper, dict(ranks)))

    def entries(self) -> list[Entry]:
        """All that is known; the constructor takes it."""
        return list(self._entries)

    def of(self, contestant: str, *others: str) -> Figures:
        """The figures of a contestant over the lists that it and the others were asked about."""
        ranks = [
            entry[contestant]
            for _, entry in self._entries
            if contestant in entry and all(other in entry for other in others)
        ]
        if not ranks:
            return Figures(0, 0.0, 0.0)
        hits = [0 < rank <= AT for rank in ranks]
        return Figures(len(ranks), float(np.mean(hits)), float(np.mean([_gain(rank) for rank in ranks])))

    def difference(self, one: str, other: str) -> Difference:
        """Compare two contestants on the lists that both were asked about.

        Lists of one shopper are alike, so the standard error is over shoppers (cluster-robust, Liang and
        Zeger 1986); it is infinite where fewer than two are known.
        """
        by_shopper: dict[str, list[float]] = {}
        for shopper, entry in self._entries:
            if one in entry and other in entry:
                by_shopper.setdefault(shopper, []).append(_gain(entry[one]) - _gain(entry[other]))
        count = sum(map(len, by_shopper.values()))
        if not count:
            return Difference(0, 0.0, -np.inf, np.inf)
        mean = sum(map(sum, by_shopper.values())) / count
        groups = len(by_shopper)
        if groups < 2:
            return Difference(count, mean, -np.inf, np.inf)
        squares = sum((sum(gains) - len(gains) * mean) ** 2 for gains in by_shopper.values())
        error = SURE * float(np.sqrt(squares * groups / (groups - 1))) / count
        return Difference(count, mean, mean - error, mean + error)


def _gain(rank: int) -> float:
    return 1.0 / rank if 0 < rank <= AT else 0.0
