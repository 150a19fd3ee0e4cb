"""The figures of lists, on lists small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stream.evaluation import metrics

RANKS = np.array([1, 0, 4, 20, 21])


def test_the_hit_rate_counts_lists_that_hold_the_item() -> None:
    assert metrics.hits(RANKS, 20).tolist() == [1, 0, 1, 1, 0]


def test_the_reciprocal_rank_is_one_over_the_place_and_nothing_beyond_the_list() -> None:
    np.testing.assert_allclose(metrics.reciprocal_ranks(RANKS, 20), [1, 0, 1 / 4, 1 / 20, 0])


def test_the_gain_falls_with_the_logarithm_of_the_place() -> None:
    expected = [1, 0, 1 / math.log2(5), 1 / math.log2(21), 0]
    np.testing.assert_allclose(metrics.gains(RANKS, 20), expected)


def test_coverage_is_the_share_of_the_catalogue_that_was_shown() -> None:
    assert metrics.coverage([3, 1, 0], catalogue=8) == 0.25
    assert metrics.coverage([], catalogue=0) == 0.0


def test_gini_is_nothing_where_all_are_shown_alike_and_near_one_where_one_alone_is() -> None:
    assert metrics.gini([5, 5, 5, 5], catalogue=4) == pytest.approx(0.0)
    assert metrics.gini([7], catalogue=100) == pytest.approx(0.99)
    assert metrics.gini([], catalogue=100) == 0.0


def test_gini_is_half_the_mean_difference_over_the_mean() -> None:
    counts = np.array([9.0, 4.0, 1.0, 0.0, 0.0])
    differences = np.abs(counts[:, None] - counts[None, :])
    expected = differences.mean() / (2 * counts.mean())
    assert metrics.gini(counts.astype(int).tolist(), catalogue=5) == pytest.approx(expected)


def test_an_item_of_every_session_surprises_nobody_and_a_rare_one_does() -> None:
    assert metrics.surprise(7, 7) == 0.0
    assert metrics.surprise(0, 7) == 3.0
    assert metrics.surprise(1, 7) == 2.0


def test_a_list_of_one_item_again_and_again_has_no_diversity() -> None:
    one = np.eye(3, 8, dtype=np.float32)
    assert metrics.intra_list_diversity(np.repeat(one[:1], 3, axis=0)) == pytest.approx(0.0)
    assert metrics.intra_list_diversity(one) == pytest.approx(1.0)


def test_items_without_a_vector_are_left_out_of_the_diversity() -> None:
    one = np.eye(2, 8, dtype=np.float32)
    assert metrics.intra_list_diversity(np.vstack([one, np.zeros((3, 8), np.float32)])) == pytest.approx(1.0)
    assert math.isnan(metrics.intra_list_diversity(one[:1]))


def test_a_mean_leaves_out_what_is_not_known() -> None:
    assert metrics.mean(np.array([1.0, float("nan"), 2.0])) == 1.5
    assert metrics.mean(np.array([float("nan")])) is None
