"""Exploration: which places are left to chance, with which probabilities, and that they are true."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.exploration import LEAST, MEAN_RATE, Slot, explored, showings, slots, win_probabilities
from stream.core.policy import ExplorationPolicy

POLICY = ExplorationPolicy(slots=2, share=0.5, place=4)


def shop(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Order, scores, clicks, showings, and which are new."""
    random = np.random.default_rng(seed)
    scores = random.standard_normal(count) * 2
    clicks = random.integers(0, 20, count) * (random.random(count) < 0.7).astype(float)
    return np.argsort(-scores), scores, clicks, showings(clicks), random.random(count) < 0.2


def drawn(found: list[Slot], order: np.ndarray, length: int, seed: int) -> list[int]:
    return explored(order, found, length, seed).order[:length].tolist()


@given(
    count=st.integers(0, 60),
    length=st.integers(1, 25),
    number=st.integers(0, 10),
    share=st.floats(0, 1),
    place=st.integers(1, 30),
    strength=st.floats(0.01, 10),
    kinds=st.sampled_from([("new",), ("uncertain",), ("new", "uncertain"), ("uncertain", "new")]),
    seed=st.integers(0, 50),
)
def test_a_list_stays_whole_and_its_propensities_are_probabilities(
    count: int, length: int, number: int, share: float, place: int, strength: float, kinds: tuple, seed: int
) -> None:
    policy = ExplorationPolicy(slots=number, share=share, place=place, strength=strength, kinds=kinds)
    order, *known = shop(count, seed)
    found = slots(order, *known, length, policy)
    made = explored(order, found, length, seed)
    assert sorted(made.order) == sorted(order)
    size = min(count, length)
    assert len(made.propensities) == len(made.explored) == size
    assert ((made.propensities > 0) & (made.propensities <= 1)).all()
    places = {slot.place for slot in found}
    assert len(places) == len(found) <= number
    for at in set(range(size)) - places:
        assert made.propensities[at] == 1.0
        assert not made.explored[at]
    pools = [position for slot in found for position in slot.positions.tolist()]
    assert len(pools) == len(set(pools))
    for slot in found:
        assert slot.propensities.sum() == pytest.approx(1.0)
        at = slot.positions.tolist().index(int(made.order[slot.place]))
        assert made.propensities[slot.place] == slot.propensities[at]


def test_the_same_seed_gives_the_same_list_and_another_gives_others() -> None:
    order, *known = shop(60)
    found = slots(order, *known, 10, POLICY)
    assert drawn(found, order, 10, 7) == drawn(found, order, 10, 7)
    assert len({tuple(drawn(found, order, 10, seed)) for seed in range(50)}) > 5


def test_items_are_drawn_as_often_as_their_propensities_say() -> None:
    order, *known = shop(60)
    found = slots(order, *known, 10, POLICY)
    seeds = 20_000
    lists = [explored(order, found, 10, seed).order for seed in range(seeds)]
    for slot in found:
        seen = Counter(int(one[slot.place]) for one in lists)
        for position, propensity in zip(slot.positions.tolist(), slot.propensities.tolist(), strict=True):
            spread = 4.5 * np.sqrt(propensity * (1 - propensity) / seeds)
            assert abs(seen[position] / seeds - propensity) < spread + 1e-9


def test_what_is_not_in_the_order_is_never_explored() -> None:
    order, *known = shop(80)
    barred = set(order[::3].tolist())
    order = np.array([position for position in order.tolist() if position not in barred])
    found = slots(order, *known, 10, POLICY)
    for seed in range(300):
        assert not barred & set(explored(order, found, 10, seed).order.tolist())


def test_the_best_stay_where_they_are_and_only_the_last_places_are_given_away() -> None:
    order, *known = shop(60)
    found = slots(order, *known, 10, POLICY)
    assert [slot.place for slot in found] == [3, 6]
    assert [int(slot.positions[0]) for slot in found] == order[8:10].tolist()
    for seed in range(50):
        top = drawn(found, order, 10, seed)
        assert [p for at, p in enumerate(top) if at not in (3, 6)] == order[:8].tolist()


def test_new_items_get_the_slot_of_their_kind_and_uncertain_ones_where_there_are_none() -> None:
    order, scores, clicks, shown, new = shop(60)
    one = ExplorationPolicy(slots=1, share=1.0, kinds=("new", "uncertain"))
    found = slots(order, scores, clicks, shown, new, 10, one)
    assert new[found[0].positions[1:]].all()
    found = slots(order, scores, clicks, shown, np.zeros(60, np.bool_), 10, one)
    assert len(found[0].positions) > 1
    only_new = ExplorationPolicy(slots=1, share=1.0, kinds=("new",))
    assert slots(order, scores, clicks, shown, np.zeros(60, np.bool_), 10, only_new) == []


@pytest.mark.parametrize("count", [0, 1, 5, 10])
def test_a_list_that_shows_all_there_is_leaves_nothing_to_chance(count: int) -> None:
    order, *known = shop(count)
    assert slots(order, *known, 10, POLICY) == []
    assert explored(order, [], 10, 1).propensities.tolist() == [1.0] * count


def test_the_chance_to_win_is_that_of_draws_from_the_posteriors() -> None:
    random = np.random.default_rng(3)
    scores = random.normal(0, 1.5, 12)
    clicks = random.integers(0, 30, 12) * (random.random(12) < 0.6).astype(float)
    shown = showings(clicks)
    rates = random.beta(1 + clicks, 1 / MEAN_RATE - 1 + shown - clicks, (200_000, 12))
    wins = np.bincount((scores + np.log(rates / MEAN_RATE)).argmax(axis=1), minlength=12) / 200_000
    expected = (1 - LEAST) * wins + LEAST / 12
    assert win_probabilities(scores, clicks, shown, 1.0) == pytest.approx(expected, abs=0.02)


def test_who_is_less_known_wins_more_often_from_behind() -> None:
    scores = np.array([1.0, 0.0, 0.0])
    known = np.array([500.0, 500.0, 0.0])
    chances = win_probabilities(scores, known, showings(known), 1.0)
    assert chances[0] > chances[2] > chances[1]


def test_showings_without_a_click_speak_against_an_item() -> None:
    clicks, shown = np.zeros(2), np.array([0.0, 400.0])
    chances = win_probabilities(np.zeros(2), clicks, shown, 1.0)
    assert chances[0] > 0.8


def test_scores_far_apart_leave_only_the_even_share_to_those_behind() -> None:
    chances = win_probabilities(np.array([0.0, -1e6, -1e9]), np.zeros(3), np.zeros(3), 1.0)
    assert chances.tolist() == pytest.approx([1 - LEAST * 2 / 3, LEAST / 3, LEAST / 3])
