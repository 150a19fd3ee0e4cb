"""The fused score of hybrid search."""

import numpy as np

from stream.core.search import LEXICAL_WEIGHT, match, relative


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
