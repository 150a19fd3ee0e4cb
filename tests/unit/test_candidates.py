"""Candidates: who is named by which source, and who never is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_shop import NOW_MS, RankingShop

from stream.core import candidates
from stream.core.candidates import OFFERS, Candidates, gather
from stream.core.context import (
    NO_HITS,
    Context,
    Hits,
    query_age,
    query_of,
    rows_needed,
    session_vector,
    taste_vector,
)
from stream.core.items import ItemTable
from stream.core.policy import DAY_MS, MINUTE_MS, Policy
from stream.core.state import REMOVE_FROM_CART, cart_of, empty, session_of
from stream.core.vectors import ItemVectors

POLICY = Policy()


@pytest.fixture(scope="module")
def shop() -> RankingShop:
    return RankingShop()


def names(shop: RankingShop, found: Candidates) -> list[str]:
    return shop.names(found.slots)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 5),
    user=st.integers(0, 25),
    viewed=st.lists(st.integers(0, 119), max_size=5),
    bought=st.lists(st.integers(0, 119), max_size=5),
    cart=st.lists(st.integers(0, 119), max_size=5),
    in_view=st.sets(st.integers(0, 119), max_size=3),
    removed=st.sets(st.integers(0, 119), max_size=20),
)
def test_no_candidate_is_excluded_by_a_rule(seed, user, viewed, bought, cart, in_view, removed) -> None:
    shop = RankingShop(seed=seed, sessions=12)
    user_id = f"user-{user}"
    for kind, places in (("view_item", viewed), ("purchase", bought), ("add_to_cart", cart)):
        for place in places:
            shop.click(user_id, f"item-{place}", kind)
    for place in removed:
        shop.items.remove(f"item-{place}")
    shown = frozenset(f"item-{place}" for place in in_view)
    found = gather(shop.context(user_id, in_view=shown), POLICY)
    got = names(shop, found)
    assert len(set(got)) == len(got)
    assert not {f"item-{place}" for place in removed} & set(got)
    assert not shown & set(got)
    assert not cart_of(shop.state(user_id)) & set(got)
    since_ms = NOW_MS - POLICY.exclude_bought_days * DAY_MS
    assert not {o.item_id for o in shop.state(user_id).owned if o.at_ms > since_ms} & set(got)
    assert all(shop.items.available[slot] for slot in found.slots)
    session = {i.item_id for i in session_of(shop.state(user_id), POLICY) if i.kind != REMOVE_FROM_CART}
    for name, seen in zip(got, found.seen, strict=True):
        assert bool(seen) == (name in session)
    if found.seen.any():
        assert (~found.seen).sum() < POLICY.list_length
    assert (found.offered > 0).all()


def test_candidates_are_bounded() -> None:
    shop = RankingShop(items=1000, categories=2, sessions=150, events=12)
    for user_id in shop.states:
        assert len(gather(shop.context(user_id), POLICY)) <= 320


def test_a_new_shopper_gets_what_trends_and_what_is_new(shop: RankingShop) -> None:
    found = gather(shop.context("nobody"), POLICY)
    assert found.by("trending").any()
    assert found.by("new").any()
    assert not found.by("covisited").any()


def test_an_empty_catalogue_gives_no_candidates() -> None:
    table = ItemTable()
    context = Context(
        empty("ann"),
        NOW_MS,
        table,
        ItemVectors(),
        {},
        np.full((len(table.available), 4), -np.inf, np.float32),
    )
    assert len(gather(context, POLICY)) == 0


def test_an_item_that_others_viewed_next_is_a_candidate() -> None:
    shop = RankingShop(sessions=0)
    for user in range(3):
        shop.click(f"other-{user}", "item-5", at_ms=NOW_MS - 5000)
        shop.click(f"other-{user}", "item-90", at_ms=NOW_MS - 4000)
    shop.click("ann", "item-5")
    found = gather(shop.context("ann", new_items=NO_HITS.slots, trending=NO_HITS), POLICY)
    place = names(shop, found).index("item-90")
    assert found.by("covisited")[place]
    assert found.forward[0, place] == pytest.approx(3.0, rel=1e-3)
    assert found.backward[0, place] == 0.0


def test_an_item_not_yet_in_the_catalogue_does_no_harm() -> None:
    shop = RankingShop()
    shop.click("ann", "not-yet-known")
    shop.click("ann", "item-5")
    found = gather(shop.context("ann"), POLICY)
    assert len(found) > POLICY.list_length


def test_items_of_the_session_come_in_only_where_a_list_would_be_too_short() -> None:
    shop = RankingShop(items=12, categories=1, sessions=4)
    for place in (1, 2, 3):
        shop.click("ann", f"item-{place}")
    found = gather(shop.context("ann"), POLICY)
    assert {"item-1", "item-2", "item-3"} <= set(names(shop, found))
    assert found.seen.sum() == 3
    enough = gather(shop.context("ann"), Policy(list_length=5))
    assert not enough.seen.any()


def test_what_was_bought_longer_ago_than_policy_excludes_is_a_candidate() -> None:
    shop = RankingShop()
    shop.click("ann", "item-5", "purchase", at_ms=NOW_MS - 8 * DAY_MS)
    shop.click("ann", "item-6", "purchase", at_ms=NOW_MS - 6 * DAY_MS)
    shop.click("ann", "item-60")
    found = gather(shop.context("ann"), POLICY)
    got = names(shop, found)
    assert "item-6" not in got
    place = got.index("item-5")
    assert found.by("history")[place]
    assert found.bought_ms[place] == NOW_MS - 8 * DAY_MS


def test_a_search_after_a_pause_begins_a_session_without_items() -> None:
    shop = RankingShop(sessions=0)
    shop.click("ann", "item-5", at_ms=NOW_MS - DAY_MS)
    state = shop.search("ann", "thing 3")
    found = gather(shop.context("ann"), POLICY)
    assert found.row_items == ()
    assert "item-5" in names(shop, found)
    assert session_vector(state, shop.items, shop.space, POLICY) is None


def test_what_followed_an_item_in_the_shoppers_own_past_counts() -> None:
    shop = RankingShop(sessions=0)
    for session in (30, 20):
        shop.click("ann", "item-5", at_ms=NOW_MS - session * DAY_MS)
        shop.click("ann", "item-60", at_ms=NOW_MS - session * DAY_MS + 1000)
        shop.click("ann", "item-70", at_ms=NOW_MS - (session - 1) * DAY_MS)
    shop.click("ann", "item-5")
    found = gather(shop.context("ann"), POLICY)
    got = names(shop, found)
    assert found.past[1, got.index("item-60")] == pytest.approx(2.0)
    assert found.past[1, got.index("item-70")] == 0.0
    assert found.past[0, got.index("item-60")] == 2


def test_a_search_names_what_its_words_and_its_vector_find() -> None:
    shop = RankingShop(sessions=0)
    shop.search("ann", "thing 3")
    lexical = Hits(
        np.array([shop.slot("item-3"), shop.slot("item-30")], np.int32), np.array([4, 1], np.float32)
    )
    vector = shop.space.vectors[shop.slot("item-80")]
    context = shop.context("ann", lexical=lexical, query_vector=vector, near_query=shop.nearest(vector, 5))
    found = gather(context, POLICY)
    got = names(shop, found)
    assert found.bm25[got.index("item-3")] == pytest.approx(1.0)
    assert found.bm25[got.index("item-30")] == pytest.approx(0.25)
    assert found.cosine_query[got.index("item-80")] == pytest.approx(1.0, abs=1e-5)
    assert found.by("search")[[got.index("item-3"), got.index("item-80")]].all()


def test_a_search_is_forgotten_after_its_minutes() -> None:
    shop = RankingShop(sessions=0)
    state = shop.search("ann", "thing 3")
    late = NOW_MS + int((POLICY.query_minutes + 1) * MINUTE_MS)
    assert query_of(state, NOW_MS, POLICY) is not None
    assert query_of(state, late, POLICY) is None
    assert query_of(empty("ann"), NOW_MS, POLICY) is None


def test_a_search_ages_by_the_items_touched_after_it() -> None:
    shop = RankingShop(sessions=0)
    shop.click("ann", "item-1", at_ms=NOW_MS - 1000)
    query = shop.search("ann", "thing 3").searches[-1]
    assert query_age(shop.state("ann"), query) == 0
    shop.click("ann", "item-2", at_ms=NOW_MS + 1000)
    shop.click("ann", "item-2", "add_to_cart", at_ms=NOW_MS + 2000)
    shop.click("ann", "item-3", at_ms=NOW_MS + 3000)
    assert query_age(shop.state("ann"), query) == 2


def test_rows_are_asked_for_the_newest_items_of_the_session() -> None:
    shop = RankingShop(sessions=0)
    for place in range(30):
        shop.click("ann", f"item-{place}", at_ms=NOW_MS - 9 * DAY_MS + place)
    for place in range(40, 43):
        shop.click("ann", f"item-{place}", at_ms=NOW_MS + place)
    assert rows_needed(shop.state("ann"), POLICY) == ["item-42", "item-41", "item-40"]


def test_vectors_of_the_session_and_of_taste_have_length_one(shop: RankingShop) -> None:
    state = shop.state("user-1")
    for vector in (
        session_vector(state, shop.items, shop.space, POLICY),
        taste_vector(state, shop.items, shop.space),
    ):
        assert vector is not None
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_a_shopper_of_unknown_items_has_no_vector() -> None:
    shop = RankingShop(sessions=0)
    state = shop.click("ann", "unknown")
    assert session_vector(state, shop.items, shop.space, POLICY) is None
    assert taste_vector(state, shop.items, shop.space) is None


def test_trends_are_of_available_items_and_by_category(shop: RankingShop) -> None:
    overall, by_category = candidates.trending(shop.items, shop.popularity)
    assert (np.diff(overall.scores) <= 0).all()
    assert shop.items.available[overall.slots].all()
    for category, hits in by_category.items():
        assert (shop.items.category[hits.slots] == category).all()


def test_every_source_has_a_bit() -> None:
    assert len(OFFERS) <= 16


def test_named_candidates_are_all_of_them_and_no_others_whatever_is_forbidden() -> None:
    shop = RankingShop()
    shop.click("ann", "item-5", "purchase", at_ms=NOW_MS - 1000)
    shop.click("ann", "item-6")
    shop.items.available[shop.slot("item-7")] = False
    named = [shop.slot(item_id) for item_id in ("item-7", "item-6", "item-5", "item-100")]
    found = gather(shop.context("ann"), shop.policy, np.array(named, np.int32))
    assert found.slots.tolist() == sorted(named)
