"""Plain rankers that lists are measured against: popularity and item-kNN."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import Protocol

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
        self._count: Counter[str] = Counter() if counts is None else counts._count
        self._together: defaultdict[str, dict[str, int]] = (
            defaultdict(dict) if counts is None else counts._together
        )

    def rank(self, shown: Sequence[str]) -> list[str]:
        weights = dict.fromkeys(shown, 1.0)
        if self._recency is not None:
            weights = {item: self._recency**age for age, item in enumerate(list(reversed(shown))[:KNN_ITEMS])}
        score: defaultdict[str, float] = defaultdict(float)
        for item, weight in weights.items():
            own = weight / math.sqrt(self._count[item] + KNN_SHRINK)
            for other, count in self._together.get(item, {}).items():
                score[other] += own * count
        for other in score:
            score[other] /= math.sqrt(self._count[other] + KNN_SHRINK)
        for item in shown:
            score.pop(item, None)
        return heapq.nlargest(self._length, score, key=score.__getitem__)

    def learn(self, items: Sequence[str]) -> None:
        if not self._learns:
            return
        items = items[:SESSION_ITEMS]
        self._count.update(items)
        for item in items:
            together = self._together[item]
            for other in items:
                if other != item:
                    together[other] = together.get(other, 0) + 1
