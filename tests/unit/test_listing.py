"""The list that goes out, with diversity and exploration on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_shop import NOW_MS, RankingShop

from stream.core.candidates import Candidates, gather
from stream.core.context import Context
from stream.core.listing import Composed, compose
from stream.core.policy import DiversityPolicy, ExplorationPolicy, Policy
from stream.core.ranking import blended
from stream.core.rules import AnyRule
from stream.core.rules.book import RuleBook
from stream.core.rules.exclude import Exclude
from stream.core.rules.in_force import NO_RULES, InForce
from stream.core.rules.matching import Match
from stream.core.rules.pin import Pin

EXPLORING = Policy(exploration=ExplorationPolicy(slots=3, share=1.0, place=5, new_days=30))
PLAIN = Policy(exploration=ExplorationPolicy(slots=0))


@pytest.fixture(scope="module")
def shop() -> RankingShop:
    return RankingShop()


def of_shopper(
    shop: RankingShop, policy: Policy, user_id: str = "user-1", *rules: AnyRule
) -> tuple[Context, Candidates, InForce]:
    context = shop.context(user_id)
    force = RuleBook(shop.items, rules).in_force(NOW_MS, "home", "", context.state) if rules else NO_RULES
    context = replace(context, rules=force)
    return context, gather(context, policy), force


def made(
    shop: RankingShop, policy: Policy, seed: int = 1, user_id: str = "user-1", *rules: AnyRule
) -> tuple[Composed, list[str]]:
    context, found, force = of_shopper(shop, policy, user_id, *rules)
    composed = compose(context, found, blended(context, found), policy, force, seed)
    return composed, shop.names(found.slots[[chosen.position for chosen in composed.chosen]])


@settings(max_examples=60, deadline=None)
@given(
    user=st.integers(0, 25),
    length=st.integers(1, 30),
    most=st.integers(1, 10),
    slots=st.integers(0, 10),
    share=st.floats(0, 1),
    strength=st.floats(0, 1),
    method=st.sampled_from(["mmr", "dpp"]),
    seed=st.integers(0, 2**64 - 1),
)
def test_whatever_is_tried_caps_hold_nothing_repeats_and_propensities_are_probabilities(
    shop: RankingShop,
    user: int,
    length: int,
    most: int,
    slots: int,
    share: float,
    strength: float,
    method: str,
    seed: int,
) -> None:
    policy = Policy(
        list_length=length,
        max_per_category=most,
        diversity=DiversityPolicy(method=method, strength=strength),  # type: ignore[arg-type]
        exploration=ExplorationPolicy(slots=slots, share=share),
    )
    plain = replace_exploration(policy)
    composed, names = made(shop, policy, seed, f"user-{user}")
    assert len(names) == len(set(names)) == len(made(shop, plain, seed, f"user-{user}")[1]) <= length
    assert all(0 < chosen.propensity <= 1 for chosen in composed.chosen)
    assert sum(chosen.propensity < 1 for chosen in composed.chosen) <= slots
    categories = Counter(item.category for name in names if (item := shop.items.get(name)) is not None)
    assert max(categories.values()) <= most


def replace_exploration(policy: Policy) -> Policy:
    return Policy(
        list_length=policy.list_length,
        max_per_category=policy.max_per_category,
        exploration=ExplorationPolicy(slots=0),
    )


def test_an_excluded_item_is_never_explored_into_a_list(shop: RankingShop) -> None:
    tried = {name for seed in range(100) for name in made(shop, EXPLORING, seed)[1]}
    plain = set(made(shop, PLAIN)[1])
    barred = sorted(tried - plain)[::2]
    assert barred
    rule = Exclude(id="no", where=Match(item_ids=tuple(barred)))
    for seed in range(100):
        assert not set(barred) & set(made(shop, EXPLORING, seed, "user-1", rule)[1])


def test_a_pinned_item_keeps_its_place_beside_what_is_tried(shop: RankingShop) -> None:
    pinned = made(shop, PLAIN)[1][-1]
    for seed in range(50):
        composed, names = made(shop, EXPLORING, seed, "user-1", Pin(id="first", item_id=pinned, position=5))
        assert names[4] == pinned
        assert composed.chosen[4].propensity == 1.0
        assert any(chosen.explored for chosen in composed.chosen)


def test_the_same_seed_makes_the_same_list(shop: RankingShop) -> None:
    assert made(shop, EXPLORING, 5) == made(shop, EXPLORING, 5)


def test_without_exploration_nothing_is_left_to_chance(shop: RankingShop) -> None:
    composed, names = made(shop, PLAIN, 1)
    assert {(chosen.propensity, chosen.explored) for chosen in composed.chosen} == {(1.0, False)}
    assert made(shop, PLAIN, 2)[1] == names


def test_new_items_are_tried(shop: RankingShop) -> None:
    new = Policy(exploration=ExplorationPolicy(slots=1, share=1.0, kinds=("new",), new_days=40))
    context, found, _ = of_shopper(shop, new)
    for seed in range(30):
        composed, _ = made(shop, new, seed)
        for chosen in composed.chosen:
            if chosen.explored:
                assert int(found.slots[chosen.position]) in context.new_items
    assert any(chosen.explored for chosen in made(shop, new, 1)[0].chosen)


def test_a_fresh_search_is_never_answered_with_what_does_not_match_to_try_it() -> None:
    searching = RankingShop(sessions=20)
    searching.search("ann", "thing 80")
    near = searching.nearest(searching.space.vectors[searching.slot("item-80")], 40)
    context = searching.context("ann", near_query=near)
    policy = Policy(max_per_category=100, exploration=EXPLORING.exploration)
    found = gather(context, policy)
    matching = found.by("search")
    assert matching.sum() > policy.list_length
    for seed in range(30):
        composed = compose(context, found, np.zeros(len(found), np.float32), policy, NO_RULES, seed)
        assert matching[[chosen.position for chosen in composed.chosen]].all()


def test_diversity_makes_a_list_less_alike(shop: RankingShop) -> None:
    def likeness(strength: float) -> float:
        policy = Policy(
            max_per_category=100,
            exploration=ExplorationPolicy(slots=0),
            diversity=DiversityPolicy(strength=strength),
        )
        found = []
        for user in range(20):
            _, names = made(shop, policy, 1, f"user-{user}")
            vectors = shop.space.vectors[[shop.slot(name) for name in names]]
            found.append((vectors @ vectors.T)[np.triu_indices(len(names), 1)].mean())
        return float(np.mean(found))

    assert likeness(0.8) < likeness(0.0) - 0.02
