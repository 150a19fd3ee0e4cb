"""Diversity: what MMR and the determinantal point process do to an order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.diversity import SAME_CATEGORY, Method, diversified, likeness

METHODS: tuple[Method, ...] = ("mmr", "dpp")


def some_items(seed: int, count: int, dimensions: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Scores, best first, and how like the items are."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((count, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    everything = np.ones(count, np.bool_)
    return -np.sort(-random.standard_normal(count)), likeness(vectors, everything, np.zeros(count, np.int32))


@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 70),
    length=st.integers(0, 30),
    strength=st.floats(0, 1),
    method=st.sampled_from(METHODS),
)
def test_the_order_is_a_permutation_that_begins_with_the_best(
    seed: int, count: int, length: int, strength: float, method: Method
) -> None:
    scores, like = some_items(seed, count)
    order = diversified(scores, like, length, strength, method)
    assert sorted(order) == list(range(count))
    assert not count or order[0] == 0
    assert (np.diff(order[max(length, 1) :]) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_without_strength_the_order_stays(method: Method) -> None:
    scores, like = some_items(1, 40)
    assert diversified(scores, like, 20, 0.0, method).tolist() == list(range(40))


@pytest.mark.parametrize("method", METHODS)
def test_a_copy_gives_way_to_something_else_that_is_nearly_as_good(method: Method) -> None:
    like = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert diversified(np.array([3.0, 2.9, 2.5]), like, 3, 0.5, method).tolist() == [0, 2, 1]


def test_half_strength_costs_a_copy_one_of_its_score() -> None:
    like = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert diversified(np.array([3.0, 2.0, 1.01]), like, 3, 0.5).tolist() == [0, 2, 1]
    assert diversified(np.array([3.0, 2.0, 0.99]), like, 3, 0.5).tolist() == [0, 1, 2]


@pytest.mark.parametrize("method", METHODS)
def test_more_strength_makes_lists_span_more(method: Method) -> None:
    def mean_volume(strength: float) -> float:
        found = []
        for seed in range(30):
            scores, like = some_items(seed, 60, dimensions=32)
            chosen = diversified(scores, like, 10, strength, method)[:10]
            found.append(np.linalg.slogdet(like[np.ix_(chosen, chosen)])[1])
        return float(np.mean(found))

    assert mean_volume(0.0) < mean_volume(0.5) < mean_volume(0.8)


def test_the_fast_greedy_choice_is_that_of_determinants_computed_anew() -> None:
    scores, like = some_items(5, 12)
    strength, chosen = 0.5, [0]
    while len(chosen) < 6:
        left = [item for item in range(12) if item not in chosen]
        gains = [
            (1 - strength) * scores[item]
            + strength * np.linalg.slogdet(like[np.ix_([*chosen, item], [*chosen, item])])[1]
            for item in left
        ]
        chosen.append(left[int(np.argmax(gains))])
    assert diversified(scores, like, 6, strength, "dpp")[:6].tolist() == chosen


def test_items_without_a_vector_are_alike_by_category() -> None:
    vectors = np.eye(5, dtype=np.float32)
    known = np.array([True, False, False, False, False])
    like = likeness(vectors, known, np.array([1, 1, 1, 2, 0], np.int32))
    assert like[0, 1] == like[1, 2] == SAME_CATEGORY
    assert like[1, 3] == like[3, 4] == like[4, 2] == 0.0
    assert (np.diag(like) == 1.0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_list_of_copies_is_still_a_list(method: Method) -> None:
    order = diversified(np.zeros(30), np.ones((30, 30)), 20, 1.0, method)
    assert sorted(order) == list(range(30))


def test_everything_is_alike_itself_whatever_is_known() -> None:
    for known, categories in itertools.product(([True, True], [False, False]), ([0, 0], [3, 3])):
        like = likeness(np.zeros((2, 4), np.float32), np.array(known), np.array(categories, np.int32))
        assert np.diag(like).tolist() == [1.0, 1.0]
