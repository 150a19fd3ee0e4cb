"""Percentile bootstrap: how far a mean over queries, or a difference of two, would move with other queries.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 12 and 13. Resampled is what is
independent: a query, or a cluster of offers with all its queries. Every system is drawn with the same
resamples, so that a difference is paired.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
LEVEL = 0.95
_DRAWS_AT_ONCE = 4_000_000

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean, or a difference of means, and the bounds that hold it in 95 of 100 resamples."""

    value: float
    low: float
    high: float

    def rounded(self, digits: int = 4) -> dict[str, float]:
        """Return the three as JSON values."""
        return {name: round(float(number), digits) for name, number in self._asdict().items()}


class Bootstrap:
    """Resampled means of the columns of a table.

    Args:
        values: shape [rows, columns], one row a query; a lone column may be [rows].
        groups: shape [rows], equal where rows are drawn together; by default each row is by itself.
        seed: the same seed and shape draw the same resamples.
        resamples: how many.

    Raises:
        ValueError: no rows.
    """

    def __init__(
        self,
        values: ArrayLike,
        groups: NDArray[Any] | None = None,
        seed: int = 0,
        resamples: int = RESAMPLES,
    ) -> None:
        table = np.asarray(values, np.float64)
        if not len(table):
            raise ValueError("no rows to resample")
        table = table.reshape(len(table), -1)
        self.means: Floats = table.mean(axis=0)
        if groups is not None:
            _, numbers = np.unique(groups, return_inverse=True)
            rows: Floats = np.bincount(numbers).astype(np.float64)
            sums: Floats = np.stack([np.bincount(numbers, weights=column) for column in table.T], axis=1)
        else:
            rows, sums = np.ones(len(table)), table
        self.resampled: Floats = _resampled_means(sums, rows, seed, resamples)

    def mean(self, column: int = 0) -> Interval:
        """Return the mean of a column and its interval."""
        return _interval(self.means[column], self.resampled[:, column])

    def difference(self, column: int, other: int) -> Interval:
        """Return how much more a column has than another, paired row by row."""
        return _interval(
            self.means[column] - self.means[other], self.resampled[:, column] - self.resampled[:, other]
        )


def _resampled_means(sums: Floats, rows: Floats, seed: int, resamples: int) -> Floats:
    """Draw as many groups as there are, with replacement, again and again.

    Args:
        sums: [groups, columns], of a group's rows.
        rows: [groups], how many rows a group has.
    """
    rng = np.random.default_rng(seed)
    groups = len(rows)
    table = np.column_stack([sums, rows])
    means = np.empty((resamples, sums.shape[1]))
    step = max(1, _DRAWS_AT_ONCE // groups)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = rng.integers(0, groups, (count, groups)) + groups * np.arange(count)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=count * groups).reshape(count, groups)
        totals = times @ table
        means[start : start + count] = totals[:, :-1] / totals[:, -1:]
    return means


def _interval(value: float, resampled: Floats) -> Interval:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Interval(float(value), float(low), float(high))
