"""The fused score of hybrid search."""

import numpy as np
import pytest

from stream.core.search import (
    CROSS_BEST,
    CROSS_WEIGHT,
    LEXICAL_WEIGHT,
    NEIGHBOURS,
    NEIGHBOURS_SHARE,
    best_matches,
    match,
    refined,
    regularised,
    relative,
)


def test_bm25_is_measured_against_the_best_hit_of_the_query() -> None:
    assert relative(np.array([2.0, 8.0, 0.0], np.float32)).tolist() == [0.25, 1.0, 0.0]


def test_a_query_whose_words_match_nothing_has_no_lexical_part() -> None:
    assert relative(np.zeros(3, np.float32)).tolist() == [0.0, 0.0, 0.0]
    assert relative(np.zeros(0, np.float32)).tolist() == []


def test_the_best_lexical_hit_adds_the_weight_to_its_cosine() -> None:
    fused = match(np.array([0.5, 0.5, 0.0], np.float32), np.array([1.0, 0.0, 1.0], np.float32))
    np.testing.assert_allclose(fused, [0.5 + LEXICAL_WEIGHT, 0.5, LEXICAL_WEIGHT], rtol=1e-6)
    assert fused.dtype == np.float32


def test_vectors_outweigh_words_where_they_disagree_by_more_than_the_weight() -> None:
    fused = match(np.array([0.9, 0.6], np.float32), np.array([0.0, 1.0], np.float32))
    assert fused[0] > fused[1]


def test_the_best_matches_come_best_first_and_are_few() -> None:
    matches = np.linspace(0.0, 1.0, 3 * CROSS_BEST, dtype=np.float32)
    assert best_matches(matches).tolist() == list(range(3 * CROSS_BEST - 1, 2 * CROSS_BEST - 1, -1))
    assert best_matches(matches[:2]).tolist() == [1, 0]
    assert best_matches(matches[:0]).tolist() == []


def test_a_pair_score_counts_beside_the_mean_of_those_scored() -> None:
    matches = np.array([0.5, 0.6, 0.7, 0.8], np.float32)
    sharper = refined(matches, np.array([1, 3]), np.array([1.0, 0.0], np.float32))
    half = CROSS_WEIGHT / 2
    np.testing.assert_allclose(sharper, [0.5, 0.6 + half, 0.7, 0.8 - half], rtol=1e-6)
    assert sharper.dtype == np.float32
    assert matches.tolist() == np.array([0.5, 0.6, 0.7, 0.8], np.float32).tolist()  # left as it was


def test_scores_that_are_all_alike_change_nothing() -> None:
    matches = np.array([0.5, 0.6], np.float32)
    assert refined(matches, np.array([0, 1]), np.full(2, 0.9, np.float32)).tolist() == matches.tolist()
    assert refined(matches, np.zeros(0, np.intp), np.zeros(0, np.float32)).tolist() == matches.tolist()


def test_a_product_among_others_that_match_rises_above_a_lonely_one() -> None:
    kind = np.eye(4, dtype=np.float32)
    count = NEIGHBOURS + 1  # of a kind, so that no product has a neighbour of the other
    vectors = np.stack([kind[0]] * count + [kind[1]] * count)
    matches = np.array([0.5] * count + [0.5] + [0.1] * NEIGHBOURS, np.float32)
    smooth = regularised(matches, vectors)
    assert smooth[:count] == pytest.approx(0.5)
    assert smooth[count] == pytest.approx(0.5 - NEIGHBOURS_SHARE * 0.4)


def test_regularising_keeps_what_is_alone_and_what_matches_alike() -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert regularised(np.array([0.4], np.float32), vectors[:1]).tolist() == [np.float32(0.4)]
    assert regularised(np.zeros(0, np.float32), vectors[:0]).tolist() == []
    alike = regularised(np.full(3, 0.7, np.float32), vectors)
    np.testing.assert_allclose(alike, 0.7, rtol=1e-6)
    assert alike.dtype == np.float32
