"""Percentiles, their bounds and slopes of load tests are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
from traffic.figures import Histogram, Resampled, merged, slope
from traffic.watching import quantile


def test_a_histogram_keeps_three_digits_and_survives_being_written() -> None:
    counted = Histogram()
    for time_ms in range(1, 1_001):
        counted.add(time_ms)
    again = Histogram.of(counted.text())
    for percent in (50, 99, 99.9):
        assert again.percentile_ms(percent) == pytest.approx(percent * 10, rel=0.002)
    assert (again.count, again.most_ms) == (1_000, pytest.approx(1_000, rel=0.002))
    assert merged([counted, again]).count == 2_000
    counted.add(-5.0)
    counted.add(10**9)
    assert counted.count == 1_002
    with pytest.raises(ValueError, match="no histogram"):
        Histogram.of("damaged")


def test_bounds_hold_the_true_percentile_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    held = 0
    for run in range(40):
        parts = [Histogram(2) for _ in range(30)]
        for part in parts:
            for time_ms in random.exponential(100.0, size=60):
                part.add(time_ms)
        interval = Resampled(parts, seed=run, resamples=300).interval_ms(merged(parts, 2), 90)
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= 230.26 <= interval.high
    assert held >= 33


def test_one_interval_alone_has_no_bounds() -> None:
    part = Histogram(2)
    part.add(5.0)
    interval = Resampled([part]).interval_ms(part, 99)
    assert (interval.low, interval.high) == (None, None)


def test_a_slope_has_wider_bounds_where_neighbours_are_alike() -> None:
    random = np.random.default_rng(4)
    at_s = np.arange(60.0)
    alone, walk = random.normal(size=60), np.convolve(random.normal(size=90), np.ones(15), "valid")[:60]
    growing, level = slope(at_s, 3 * at_s + alone), slope(at_s, walk)
    assert growing is not None
    assert level is not None
    assert growing.value == pytest.approx(3, abs=0.05)
    assert growing.high - growing.low < level.high - level.low  # type: ignore[operator]
    assert slope([0.0, 1.0], [1.0, 2.0]) is None


def test_prometheus_buckets_are_interpolated_as_prometheus_does() -> None:
    buckets = {0.01: 50.0, 0.1: 90.0, float("inf"): 100.0}
    assert quantile(buckets, 0.5) == pytest.approx(0.01)
    assert quantile(buckets, 0.7) == pytest.approx(0.055)
    assert quantile(buckets, 0.99) == pytest.approx(0.1), "the last bucket has no end"
