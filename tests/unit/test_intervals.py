"""Bootstrap intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stream.evaluation.intervals import Bootstrap


def test_the_interval_of_a_mean_is_that_of_normal_theory() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.2, 400)
    value, low, high = Bootstrap(values).mean()
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert value == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)


def test_about_95_of_100_intervals_hold_the_true_mean() -> None:
    rng = np.random.default_rng(2)
    samples = rng.normal(3.0, 1.0, (80, 400))  # 400 samples as columns, which share their resamples
    bootstrap = Bootstrap(samples, resamples=1_000)
    held = [bootstrap.mean(column).low <= 3.0 <= bootstrap.mean(column).high for column in range(400)]
    assert 0.90 <= np.mean(held) <= 0.98


def test_a_difference_is_paired() -> None:
    difficulty = np.random.default_rng(3).normal(0, 1, 200)
    bootstrap = Bootstrap(np.column_stack([difficulty + 0.1, difficulty]))
    value, low, high = bootstrap.difference(0, 1)
    assert (value, low, high) == pytest.approx((0.1, 0.1, 0.1))
    assert bootstrap.mean(0).high - bootstrap.mean(0).low > 0.2


def test_rows_of_a_group_are_drawn_together() -> None:
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(100), 10)
    values = np.repeat(rng.normal(0, 1, 100), 10)
    alone, together = Bootstrap(values).mean(), Bootstrap(values, groups).mean()
    ratio = (together.high - together.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.1)
    assert Bootstrap(values[::10]).mean().low == pytest.approx(together.low), "one row a group is the same"


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(5).random(50)
    assert Bootstrap(values, seed=1).mean() == Bootstrap(values, seed=1).mean()
    assert Bootstrap(values, seed=1).mean() != Bootstrap(values, seed=2).mean()


def test_nothing_to_resample_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        Bootstrap(np.zeros((0, 2)))


@given(
    arrays.arrays(
        np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.floats(-1e3, 1e3)
    ),
    st.data(),
)
def test_intervals_lie_within_the_values_and_grouped_means_are_means(
    values: np.ndarray[tuple[int, int], np.dtype[np.float64]], data: st.DataObject
) -> None:
    groups = np.array(data.draw(st.lists(st.integers(0, 4), min_size=len(values), max_size=len(values))))
    bootstrap = Bootstrap(values, groups, resamples=50)
    for column in range(values.shape[1]):
        value, low, high = bootstrap.mean(column)
        assert value == pytest.approx(values[:, column].mean())
        assert values[:, column].min() - 1e-9 <= low <= high <= values[:, column].max() + 1e-9
