"""Plain rankers that lists are measured against: popularity and item-kNN."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LENGTH = 20
POPULAR_SESSIONS = 5_000
KNN_ITEMS = 15
"""Newest items that item-kNN with recency looks at."""
KNN_SHRINK = 10.0
SESSION_ITEMS = 100


class Baseline(Protocol):
    """Ranks items for a session and learns sessions one after the other."""

    def rank(self, shown: Sequence[str]) -> list[str]:
        """The best items that the session has not shown yet, best first."""

    def learn(self, items: Sequence[str]) -> None:
        """Add a finished session's distinct items."""


class Popularity:
    """How many of the last 5,000 sessions held an item."""

    def __init__(self, length: int = LENGTH) -> None:
        self._length = length
        self._sessions: deque[Sequence[str]] = deque()
        self._count: Counter[str] = Counter()

    def rank(self, shown: Sequence[str]) -> list[str]:
        best = heapq.nlargest(self._length + len(shown), self._count, key=self._count.__getitem__)
        return [item for item in best if item not in shown][: self._length]

    def learn(self, items: Sequence[str]) -> None:
        self._sessions.append(items)
        self._count.update(items)
        if len(self._sessions) > POPULAR_SESSIONS:
            self._count.subtract(self._sessions.popleft())


class ItemKnn:
    """Shrunk cosine of the sessions that two items share, summed over the session.

    Args:
        recency: what an item counts, to the power of its age in items; None counts all alike.
        counts: another one, which learns for both.
    """

    def __init__(
        self, recency: float | None = None, length: int = LENGTH, counts: ItemKnn | None = None
    ) -> None:
        self._recency = recency
        self._length = length
        self._learns = counts is None
        self._shared: _SharedSessions = _SharedSessions() if counts is None else counts._shared

    def rank(self, shown: Sequence[str]) -> list[str]:
        weights = dict.fromkeys(shown, 1.0)
        if self._recency is not None:
            weights = {item: self._recency**age for age, item in enumerate(list(reversed(shown))[:KNN_ITEMS])}
        shared = self._shared
        numbers = {item: number for item in shown if (number := shared.numbers.get(item)) is not None}
        if not numbers:
            return []
        scale = 1.0 / np.sqrt(np.array(shared.count) + KNN_SHRINK)
        rows = [
            (others, weights[item] * scale[number] * together)
            for item, number in numbers.items()
            if item in weights
            for others, together in [shared.row(number)]
        ]
        others, pulls = (np.concatenate(column) for column in zip(*rows, strict=True))
        score = np.bincount(others, pulls, len(scale)) * scale
        score[list(numbers.values())] = 0.0
        found = np.flatnonzero(score)
        best = found[np.argsort(-score[found], kind="stable")[: self._length]]
        return [shared.names[number] for number in best.tolist()]

    def learn(self, items: Sequence[str]) -> None:
        if self._learns:
            self._shared.learn(items[:SESSION_ITEMS])


class _SharedSessions:
    """How many sessions held an item, and how many two; items are numbered as they come."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.names: list[str] = []
        self.count: list[int] = []
        self._together: list[dict[int, int]] = []
        self._rows: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    def learn(self, items: Sequence[str]) -> None:
        """Add a session."""
        self._rows.clear()
        numbers = [self._number(item) for item in items]
        for number in numbers:
            self.count[number] += 1
            together = self._together[number]
            for other in numbers:
                if other != number:
                    together[other] = together.get(other, 0) + 1

    def row(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The items that an item shared sessions with, and how many; the same until more is learnt."""
        row = self._rows.get(number)
        if row is None:
            together, count = self._together[number], len(self._together[number])
            row = self._rows[number] = (
                np.fromiter(together, np.int64, count),
                np.fromiter(together.values(), np.float64, count),
            )
        return row

    def _number(self, item: str) -> int:
        number = self.numbers.get(item)
        if number is None:
            number = self.numbers[item] = len(self.names)
            self.names.append(item)
            self.count.append(0)
            self._together.append({})
        return number
