"""Histograms of milliseconds, and what can be said of a run from its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

MOST_US = 3_600_000_000
FINE, COARSE = 3, 2
"""Significant digits: of a whole run, and of one interval of it."""
RESAMPLES = 1_000
CONFIDENCE = 0.95


class Interval(msgspec.Struct, frozen=True):
    """A value and the bounds between which it lies with 95 %; those are None where nothing can be said."""

    value: float
    low: float | None = None
    high: float | None = None


def scaled(interval: Interval, factor: float) -> Interval:
    """An interval in another unit."""
    value, low, high = msgspec.structs.astuple(interval)
    return Interval(
        value * factor, None if low is None else low * factor, None if high is None else high * factor
    )


class Histogram:
    """Counts of times by HdrHistogram, from a microsecond to an hour.

    Args:
        digits: significant ones that are kept of a time.
    """

    def __init__(self, digits: int = FINE) -> None:
        self._counts = HdrHistogram(1, MOST_US, digits)

    @classmethod
    def of(cls, text: str) -> Histogram:
        """Read what `text` wrote. Raises `ValueError` where it is no such thing."""
        made = cls.__new__(cls)
        try:
            made._counts = HdrHistogram.decode(text.encode())
        except Exception as error:  # the library has no error of its own for damaged text
            raise ValueError(f"no histogram: {error}") from error
        return made

    def text(self) -> str:
        """The counts in HdrHistogram's own compressed form, base64."""
        return str(self._counts.encode().decode())

    def add(self, time_ms: float) -> None:
        """Count one time; what is below a microsecond or beyond an hour counts as that."""
        self._counts.record_value(min(MOST_US, max(1, round(time_ms * 1_000))))

    def merge(self, other: Histogram) -> None:
        """Count all that another counted."""
        self._counts.add(other._counts)

    @property
    def count(self) -> int:
        return int(self._counts.get_total_count())

    @property
    def most_ms(self) -> float:
        return float(self._counts.get_max_value()) / 1_000

    @property
    def mean_ms(self) -> float:
        values_ms, counts = self.counts()
        return float(values_ms @ counts / counts.sum()) if self.count else 0.0

    def percentile_ms(self, percent: float) -> float:
        """The time that so many of a hundred do not exceed; 0 where there are none."""
        return float(self._counts.get_value_at_percentile(percent)) / 1_000 if self.count else 0.0

    def counts(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The distinct times in milliseconds, ascending, and how often each came."""
        counts = np.array(self._counts.counts, np.int64)
        at = np.flatnonzero(counts)
        values: Any = [
            self._counts.get_highest_equivalent_value(self._counts.get_value_from_index(one))
            for one in at.tolist()
        ]
        return np.array(values, np.float64) / 1_000, counts[at]


def merged(parts: Sequence[Histogram], digits: int = FINE) -> Histogram:
    """All counts of several together."""
    together = Histogram(digits)
    for part in parts:
        together.merge(part)
    return together


class Resampled:
    """Percentiles of a run drawn again and again from its intervals, as the run might have gone.

    Intervals and not single events are drawn, since neighbouring events are slow together (moving block
    bootstrap with blocks of one interval).
    """

    def __init__(self, parts: Sequence[Histogram], seed: int = 1, resamples: int = RESAMPLES) -> None:
        counted = [part.counts() for part in parts if part.count]
        self._usable = len(counted) >= 2
        if not self._usable:
            return
        self._values_ms = np.unique(np.concatenate([values for values, _ in counted]))
        table = np.zeros((len(counted), len(self._values_ms)))
        for row, (values, counts) in zip(table, counted, strict=True):
            row[np.searchsorted(self._values_ms, values)] = counts
        random = np.random.default_rng(seed)
        drawn = random.multinomial(len(counted), np.full(len(counted), 1 / len(counted)), size=resamples)
        self._cumulated = np.cumsum(drawn @ table, axis=1)

    def percentiles_ms(self, percent: float) -> NDArray[np.float64] | None:
        """One value for each drawing, None where there are too few intervals."""
        if not self._usable:
            return None
        wanted = np.ceil(self._cumulated[:, -1] * percent / 100)
        at = (self._cumulated < wanted[:, None]).sum(axis=1)
        found: NDArray[np.float64] = self._values_ms[at]
        return found

    def interval_ms(self, whole: Histogram, percent: float) -> Interval:
        """A percentile of the run with its bounds."""
        return with_bounds(whole.percentile_ms(percent), self.percentiles_ms(percent))


def with_bounds(value: float, drawn: NDArray[np.float64] | None) -> Interval:
    """A value with the middle 95 % of what was drawn in its place."""
    if drawn is None:
        return Interval(value)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(min(low, value)), float(max(high, value)))


def resampled_sums(
    rows: Sequence[Sequence[float]],
    figure: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    seed: int = 1,
) -> Interval:
    """A figure of sums over intervals, such as a share, with its bounds.

    Args:
        rows: for each interval its summands.
        figure: from sums [drawing, summand] to figures [drawing].
    """
    table = np.array(rows, np.float64).reshape(len(rows), -1)
    value = float(figure(table.sum(axis=0)[None])[0])
    if len(rows) < 2:
        return Interval(value)
    drawn = np.random.default_rng(seed).multinomial(
        len(rows), np.full(len(rows), 1 / len(rows)), size=RESAMPLES
    )
    return with_bounds(value, figure(drawn @ table))


def slope(at_s: Sequence[float], values: Sequence[float]) -> Interval | None:
    """How much a value grows a second, by least squares; None below four points.

    The bounds allow for neighbouring points that are alike: the errors are taken for a first-order
    autoregression, which makes so many points worth fewer.
    """
    if len(at_s) < 4 or at_s[-1] <= at_s[0]:
        return None
    times, heights = np.asarray(at_s, np.float64), np.asarray(values, np.float64)
    centred = times - times.mean()
    steepness = float(centred @ heights / (centred @ centred))
    errors = heights - heights.mean() - steepness * centred
    spread = float(errors @ errors)
    if spread == 0.0:
        return Interval(steepness, steepness, steepness)
    alike = float(np.clip(errors[1:] @ errors[:-1] / spread, 0.0, 0.99))
    worth = max(3.0, len(times) * (1 - alike) / (1 + alike))
    error = float(np.sqrt(spread / (worth - 2) / (centred @ centred) * len(times) / worth))
    return Interval(steepness, steepness - 1.96 * error, steepness + 1.96 * error)
