"""Exploration: which places are left to chance, with which probabilities, and that they are true."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.exploration import (
    LEAST,
    MEAN_RATE,
    Explored,
    Known,
    chances,
    explored,
    showings,
    slots,
    win_probabilities,
)
from stream.core.policy import ExplorationPolicy

POLICY = ExplorationPolicy(slots=2, share=0.5, place=4)


class Shop:
    """Candidates with scores, and a list of the best of them."""

    def __init__(self, count: int, length: int = 10, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        scores = random.standard_normal(count) * 2
        clicks = random.integers(0, 20, count) * (random.random(count) < 0.7).astype(float)
        self.known = Known(scores, clicks, showings(clicks), random.random(count) < 0.2)
        order = np.argsort(-scores)
        self.listed: list[int] = order[:length].tolist()
        self.spare = order[length:]

    def made(self, seed: int, policy: ExplorationPolicy = POLICY) -> Explored:
        """The list of one seed."""
        drawn_from = slots(self.listed, self.spare, self.known.new, policy)
        return explored(self.listed, drawn_from, lambda: self.known, policy, seed)


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
    shop = Shop(count, length, seed)
    made = shop.made(seed, policy)
    assert len(set(made.chosen)) == len(made.chosen) == min(count, length)
    assert len(made.propensities) == len(made.explored) == len(made.chosen)
    assert all(0 < propensity <= 1 for propensity in made.propensities)
    drawn_from = slots(shop.listed, shop.spare, shop.known.new, policy)
    places = {slot.place for slot in drawn_from}
    assert len(places) == len(drawn_from) <= number
    for at in set(range(len(made.chosen))) - places:
        assert made.propensities[at] == 1.0
        assert not made.explored[at]
    pools = [position for slot in drawn_from for position in slot.pool.tolist()]
    assert len(pools) == len(set(pools))
    assert not set(pools) & set(shop.listed)
    for slot in drawn_from:
        of_pool = chances(slot, shop.known, policy)
        assert of_pool.sum() == pytest.approx(share)
        expected = dict(zip(slot.pool.tolist(), of_pool.tolist(), strict=True)) | {slot.regular: 1 - share}
        assert made.propensities[slot.place] == expected[made.chosen[slot.place]]


def test_the_same_seed_gives_the_same_list_and_another_gives_others() -> None:
    shop = Shop(60)
    assert shop.made(7) == shop.made(7)
    assert len({tuple(shop.made(seed).chosen) for seed in range(50)}) > 5


def test_items_are_drawn_as_often_as_their_propensities_say() -> None:
    shop, seeds = Shop(60), 4_000
    lists = [shop.made(seed).chosen for seed in range(seeds)]
    for slot in slots(shop.listed, shop.spare, shop.known.new, POLICY):
        seen = Counter(one[slot.place] for one in lists)
        expected = chances(slot, shop.known, POLICY).tolist()
        pairs = [*zip(slot.pool.tolist(), expected, strict=True), (slot.regular, 1 - POLICY.share)]
        for position, propensity in pairs:
            spread = 4.5 * np.sqrt(propensity * (1 - propensity) / seeds)
            assert abs(seen[position] / seeds - propensity) < spread


def test_the_best_stay_in_their_order_and_only_the_last_are_given_away() -> None:
    shop = Shop(60)
    for seed in range(50):
        chosen = shop.made(seed).chosen
        assert [position for at, position in enumerate(chosen) if at not in (3, 6)] == shop.listed[:8]


def test_new_items_get_the_slot_of_their_kind_and_uncertain_ones_where_there_are_none() -> None:
    shop = Shop(60)
    nothing_new = np.zeros(60, np.bool_)
    one = ExplorationPolicy(slots=1, share=1.0, kinds=("new", "uncertain"))
    assert shop.known.new[slots(shop.listed, shop.spare, shop.known.new, one)[0].pool].all()
    assert len(slots(shop.listed, shop.spare, nothing_new, one)[0].pool)
    only_new = ExplorationPolicy(slots=1, share=1.0, kinds=("new",))
    assert slots(shop.listed, shop.spare, nothing_new, only_new) == []


@pytest.mark.parametrize("count", [0, 1, 5, 10])
def test_a_list_that_shows_all_there_is_leaves_nothing_to_chance(count: int) -> None:
    shop = Shop(count)
    assert slots(shop.listed, shop.spare, shop.known.new, POLICY) == []
    assert shop.made(1) == (shop.listed, [1.0] * count, [False] * count)


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
