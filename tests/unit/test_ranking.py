"""Ranking: finite features, trained weights that fit them, and a list that keeps the rules."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_shop import NOW_MS, RankingShop

from stream.core import blend, ranking
from stream.core.candidates import Candidates, gather
from stream.core.context import Context, Hits
from stream.core.items import Item
from stream.core.listing import compose
from stream.core.policy import DAY_MS, DiversityPolicy, ExplorationPolicy, Policy
from stream.core.ranking import FEATURES, blended, features, query_score, to_read
from stream.core.rules.in_force import NO_RULES

POLICY = Policy()


@pytest.fixture(scope="module")
def shop() -> RankingShop:
    return RankingShop()


def made(shop: RankingShop, user_id: str = "ann", **more) -> tuple[Context, Candidates]:
    context = shop.context(user_id, **more)
    return context, gather(context, POLICY)


def select(
    context: Context, found: Candidates, scores: np.ndarray, policy: Policy
) -> list[tuple[int, float]]:
    """Positions in the candidates with their final scores, nothing left to chance."""
    policy = msgspec.structs.replace(policy, exploration=ExplorationPolicy(slots=0))
    return [one[:2] for one in compose(context, found, scores, policy, NO_RULES, 0).chosen]


def listed(shop: RankingShop, context: Context, found: Candidates, policy: Policy = POLICY) -> list[str]:
    chosen = select(context, found, blended(context, found), policy)
    return shop.names(found.slots[position] for position, _ in chosen)


def searched(shop: RankingShop, item_id: str, **more) -> tuple[Context, Candidates]:
    """A shopper's search whose words and vector are those of an item."""
    slot = shop.slot(item_id)
    vector = shop.space.vectors[slot]
    lexical = Hits(np.array([slot], np.int32), np.array([3.0], np.float32))
    return made(shop, lexical=lexical, query_vector=vector, near_query=shop.nearest(vector, 40), **more)


def test_features_are_finite_and_as_many_as_their_names(shop: RankingShop) -> None:
    for user_id in [*shop.states, "nobody"]:
        context, found = made(shop, user_id)
        table = features(context, found)
        assert table.shape == (len(found), len(FEATURES))
        assert table.dtype == np.float32
        assert np.isfinite(table).all()


def test_the_trained_weights_are_of_these_features() -> None:
    assert len(blend.WEIGHTS) == len(blend.CENTRE) == len(blend.SPREAD) == len(FEATURES)
    assert np.isfinite(blend.WEIGHTS).all()
    assert (blend.SPREAD > 0).all()


def test_features_stay_finite_when_the_clock_is_far_from_what_was_learnt(shop: RankingShop) -> None:
    for at_ms in (100_000_000_000, 253_402_300_799_999):
        context, found = made(shop, "user-1", at_ms=at_ms)
        assert np.isfinite(features(context, found)).all()
        assert np.isfinite(blended(context, found)).all()


def test_what_others_viewed_next_ranks_above_what_is_only_new() -> None:
    shop = RankingShop(sessions=0)
    for user in range(5):
        shop.click(f"other-{user}", "item-5", at_ms=NOW_MS - 5000)
        shop.click(f"other-{user}", "item-90", at_ms=NOW_MS - 4000)
    shop.click("ann", "item-5")
    context, found = made(shop)
    assert listed(shop, context, found)[0] == "item-90"


def test_a_shopper_of_whom_nothing_is_known_gets_a_full_list(shop: RankingShop) -> None:
    context, found = made(shop, "nobody")
    assert len(listed(shop, context, found)) == POLICY.list_length


@settings(max_examples=40)
@given(
    user=st.integers(0, 19),
    length=st.integers(1, 30),
    most=st.integers(1, 10),
    scores=st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1),
)
def test_a_list_keeps_its_length_its_categories_and_repeats_nothing(
    shop: RankingShop, user: int, length: int, most: int, scores: list[float]
) -> None:
    policy = Policy(list_length=length, max_per_category=most, diversity=DiversityPolicy(strength=0))
    context, found = made(shop, f"user-{user}")
    chosen = select(context, found, np.resize(np.array(scores, np.float32), len(found)), policy)
    positions = [position for position, _ in chosen]
    assert len(positions) == len(set(positions)) <= length
    finals = [score for _, score in chosen]
    assert np.isfinite(finals).all()
    assert finals == sorted(finals, reverse=True)
    categories = shop.items.category[found.slots[positions]]
    assert all((categories == category).sum() <= most for category in categories if category)
    again = select(context, found, np.resize(np.array(scores, np.float32), len(found)), policy)
    assert again == chosen


def test_items_without_a_category_are_not_counted() -> None:
    shop = RankingShop(sessions=0)
    for number in range(30):
        shop.items.put(Item(f"plain-{number}", "PLAIN", first_seen_ms=NOW_MS + number * DAY_MS))
    context, found = made(shop, "nobody")
    plain = [name for name in listed(shop, context, found) if name.startswith("plain")]
    assert len(plain) > POLICY.max_per_category


def test_items_of_the_session_come_last() -> None:
    shop = RankingShop(items=12, categories=1, sessions=4)
    for place in (1, 2, 3):
        shop.click("ann", f"item-{place}")
    context, found = made(shop)
    seen = found.seen[[position for position, _ in select(context, found, blended(context, found), POLICY)]]
    assert (np.diff(seen.astype(int)) >= 0).all()


def test_a_fresh_search_is_answered_by_what_matches_it_first() -> None:
    shop = RankingShop(sessions=20)
    shop.click("ann", "item-5", at_ms=NOW_MS - 1000)
    shop.search("ann", "thing 80")
    context, found = searched(shop, "item-80")
    chosen = select(context, found, blended(context, found), Policy(max_per_category=100))
    matching = found.by("search")[[position for position, _ in chosen]]
    assert shop.names([found.slots[chosen[0][0]]]) == ["item-80"]
    assert matching.all()


def test_what_does_not_match_fills_up_a_search_with_few_hits() -> None:
    shop = RankingShop(sessions=20)
    shop.search("ann", "thing 80")
    few = shop.nearest(shop.space.vectors[shop.slot("item-80")], 3)
    context, found = made(shop, near_query=few)
    chosen = select(context, found, blended(context, found), POLICY)
    matching = found.by("search")[[position for position, _ in chosen]]
    assert matching.tolist() == [True] * int(matching.sum()) + [False] * int((~matching).sum())
    assert len(chosen) == POLICY.list_length


def test_a_better_match_ranks_higher_where_the_shopper_does_not_care() -> None:
    shop = RankingShop(sessions=0)
    shop.search("ann", "thing 80")
    context, found = searched(shop, "item-80")
    chosen = select(context, found, np.zeros(len(found), np.float32), Policy(max_per_category=100))
    order = query_score(context, found)[[position for position, _ in chosen]]
    assert (np.diff(order) <= 1e-6).all()
    assert shop.names([found.slots[chosen[0][0]]]) == ["item-80"]


def test_a_search_counts_less_for_every_item_touched_after_it() -> None:
    shop = RankingShop(sessions=0)
    shop.search("ann", "thing 80")
    strengths = []
    for step in range(4):
        context, found = searched(shop, "item-80")
        strengths.append(float(np.ptp(ranking.query_score(context, found))))
        shop.click("ann", f"item-{step + 1}", at_ms=NOW_MS + step + 1)
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[3] < 0.6 * strengths[0]


def test_without_a_search_nothing_is_added(shop: RankingShop) -> None:
    context, found = made(shop, "user-1")
    assert not ranking.query_score(context, found).any()


def test_of_a_search_the_best_matches_are_read_best_first() -> None:
    shop = RankingShop(sessions=0)
    shop.search("ann", "thing")
    context, found = searched(shop, "item-50")
    positions = to_read(context, found, 8)
    assert shop.names(found.slots[positions])[0] == "item-50"
    assert len(positions) == 8
    assert found.by("search")[positions].all()
    assert (np.diff(query_score(context, found)[positions]) <= 0).all()
    assert len(to_read(*made(shop, "nobody"), 8)) == 0


def test_what_the_cross_encoder_read_moves_and_nothing_else_does() -> None:
    shop = RankingShop(sessions=0)
    shop.search("ann", "thing")
    context, found = searched(shop, "item-50")
    plain = query_score(context, found)
    positions = to_read(context, found, 4)
    scores = np.array([0.0, 0.0, 0.0, 1.0], np.float32)
    moved = query_score(replace(context, read=Hits(found.slots[positions], scores)), found) - plain
    assert moved[positions[3]] > 0
    assert (moved[positions[:3]] < 0).all()
    others = np.setdiff1d(np.arange(len(found)), positions)
    assert not moved[others].any()
    assert abs(float(moved.sum())) < 1e-4
