"""Reasons: whatever a list says of an item is true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_shop import NOW_MS, RankingShop

from stream.core.candidates import Candidates, gather
from stream.core.context import NO_HITS, Context, Hits
from stream.core.explain import PAIRS_OF_ITEM, SAYS, cause, causes, claims
from stream.core.items import Item
from stream.core.policy import DAY_MS, Policy
from stream.core.sources.search import CLOSE_TO_QUERY
from stream.core.sources.similar import CLOSE_TO_ITEM
from stream.core.wording import TITLE_CHARS

POLICY = Policy()
ALONE = {"trending": NO_HITS, "trending_by_category": {}, "new_items": NO_HITS.slots}


def made(shop: RankingShop, user_id: str = "ann", **more) -> tuple[Context, Candidates]:
    context = shop.context(user_id, **more)
    return context, gather(context, POLICY)


def said(shop: RankingShop, item_id: str, **more) -> tuple[str, str]:
    """Source and reason of one item in ann's list."""
    context, found = made(shop, **more)
    return cause(context, found, shop.names(found.slots).index(item_id))[:2]


def named_item(shop: RankingShop, reason: str) -> str:
    """The id of the item that a reason names: THING 7 is item-7."""
    return "item-" + reason.partition("THING ")[2].split()[0]


def assert_true(shop: RankingShop, context: Context, found: Candidates, position: int) -> None:
    """Check a reason against the state, the signals and the catalogue, not against the candidates."""
    source, reason = cause(context, found, position)[:2]
    assert source in SAYS
    assert len(reason) < 2 * TITLE_CHARS
    item_id = shop.names([found.slots[position]])[0]
    touched = {i.item_id for i in context.state.interactions}
    owned = {o.item_id for o in context.state.owned}
    if source == "covisited":
        named = named_item(shop, reason)
        assert named in touched
        assert item_id in shop.signals[named].neighbours
        kinds = [i.event_type for i in context.state.interactions if i.item_id == named]
        if "bought" in reason:
            assert kinds[-1] == "purchase"
        elif "cart" in reason:
            assert kinds[-1] in ("add_to_cart", "remove_from_cart")
        else:
            assert "viewed" in reason
            assert kinds[-1] in ("view_item", "select_item")
    elif source == "history":
        assert item_id in (owned if reason == "you bought it before" else touched | owned)
    elif source == "similar":
        named = named_item(shop, reason)
        assert named in touched
        cosine = shop.space.vectors[shop.slot(named)] @ shop.space.vectors[shop.slot(item_id)]
        assert cosine >= CLOSE_TO_ITEM
    elif source == "taste":
        assert touched | owned
    elif source == "trending":
        if reason == "popular right now":
            assert shop.slot(item_id) in context.trending.slots
        else:
            item = shop.items.get(item_id)
            assert item is not None
            assert reason == f"popular in {item.category}"
    elif source == "new":
        assert shop.slot(item_id) in context.new_items
    elif source == "session":
        assert item_id in touched
    elif source == "range":
        assert reason == "from our range"
    else:
        assert context.query is not None
        assert context.query.query in reason
        if reason.startswith("matches"):
            assert found.slots[position] in context.lexical.slots
        else:
            assert context.query_vector is not None
            assert shop.space.vectors[shop.slot(item_id)] @ context.query_vector >= CLOSE_TO_QUERY


@settings(max_examples=30)
@given(
    user=st.integers(0, 9),
    steps=st.lists(
        st.tuples(
            st.integers(0, 119),
            st.sampled_from(["view_item", "select_item", "add_to_cart", "remove_from_cart", "purchase"]),
            st.integers(0, 40),
        ),
        max_size=6,
    ),
    query=st.booleans(),
)
def test_every_reason_is_true(user: int, steps: list, query: bool) -> None:
    shop = RankingShop(sessions=20)
    user_id = f"user-{user}"
    for place, kind, days in sorted(steps, key=lambda step: -step[2]):
        shop.click(user_id, f"item-{place}", kind, at_ms=NOW_MS - days * DAY_MS)
    more = {}
    if query:
        shop.search(user_id, "thing")
        vector = shop.space.vectors[shop.slot("item-80")]
        more = {
            "query_vector": vector,
            "near_query": shop.nearest(vector, 20),
            "lexical": Hits(np.array([1, 2, 3], np.int32), np.array([3.0, 2.0, 1.0], np.float32)),
        }
    context, found = made(shop, user_id, **more)
    for position in range(len(found)):
        assert_true(shop, context, found, position)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("view_item", "because you viewed THING 5"),
        ("purchase", "because you bought THING 5"),
        ("add_to_cart", "because you put THING 5 in your cart"),
        ("remove_from_cart", "because you had THING 5 in your cart"),
    ],
)
def test_a_reason_says_what_the_shopper_did(kind, words) -> None:
    shop = RankingShop(sessions=0)
    for user in range(5):
        shop.click(f"other-{user}", "item-5", at_ms=NOW_MS - 5000)
        shop.click(f"other-{user}", "item-90", at_ms=NOW_MS - 4000)
    if kind == "remove_from_cart":
        shop.click("ann", "item-5", "add_to_cart", at_ms=NOW_MS - 1000)
    shop.click("ann", "item-5", kind)
    source, reason = said(shop, "item-90", **ALONE)
    assert source == "covisited"
    assert reason == words


def test_a_match_of_a_search_in_words_or_in_meaning_says_which() -> None:
    shop = RankingShop(sessions=0)
    shop.search("ann", "red mug")
    vector = shop.space.vectors[shop.slot("item-80")]
    near = {"query_vector": vector, "near_query": shop.nearest(vector, 20)}
    words = Hits(np.array([shop.slot("item-80")], np.int32), np.array([2.0], np.float32))
    assert said(shop, "item-80", **near, **ALONE) == ("search", "close to your search for red mug")
    assert said(shop, "item-80", lexical=words, **near, **ALONE) == (
        "search",
        "matches your search for red mug",
    )


def test_a_like_item_names_what_it_is_like() -> None:
    shop = RankingShop(sessions=0)
    shop.click("ann", "item-80")
    assert said(shop, "item-86", **ALONE) == ("similar", "similar to THING 80")


def test_what_is_found_unlike_the_newest_item_is_not_called_similar_to_it() -> None:
    shop = RankingShop(sessions=0)
    shop.click("ann", "item-80")
    source, _ = said(shop, "item-86", unlike=np.array([shop.slot("item-86")], np.int32), **ALONE)
    assert source != "similar"


def test_what_is_found_unlike_the_newest_item_may_be_similar_to_the_one_before() -> None:
    shop = RankingShop(sessions=0)
    shop.click("ann", "item-82", at_ms=NOW_MS - 1)
    shop.click("ann", "item-80")
    unlike = np.array([shop.slot("item-86")], np.int32)
    assert said(shop, "item-86", unlike=unlike, **ALONE) == ("similar", "similar to THING 82")


def test_only_what_could_be_called_similar_to_the_newest_item_is_read() -> None:
    shop = RankingShop(sessions=0)
    shop.click("ann", "item-80")
    context, found = made(shop, **ALONE)
    positions = claims(found)
    assert 0 < len(positions) <= PAIRS_OF_ITEM
    cosines = found.cosine_rows[0][positions]
    assert (cosines >= CLOSE_TO_ITEM).all()
    assert (np.diff(cosines) <= 0).all()
    assert found.slots[positions[0]] in context.near_session.slots
    nobody = made(shop, "bob")[1]
    assert len(claims(nobody)) == 0


def test_an_item_bought_before_says_so() -> None:
    shop = RankingShop(sessions=0)
    shop.click("ann", "item-7", "purchase", at_ms=NOW_MS - 30 * DAY_MS)
    shop.search("ann", "anything")
    assert said(shop, "item-7", **ALONE) == ("history", "you bought it before")


def test_what_trends_says_where() -> None:
    shop = RankingShop(sessions=0)
    for user in range(4):
        shop.click(f"user-{user}", "item-90", at_ms=NOW_MS - 1000)
    assert said(shop, "item-90", new_items=NO_HITS.slots) == ("trending", "popular right now")


def test_what_trends_in_a_category_names_it() -> None:
    shop = RankingShop(sessions=0)
    for user in range(4):
        shop.click(f"user-{user}", "item-91", at_ms=NOW_MS - 1000)
    shop.click("ann", "item-119")
    found = shop.context("ann").trending_by_category
    nowhere_near = {
        "near_session": NO_HITS,
        "near_taste": NO_HITS,
        "session_vector": None,
        "taste_vector": None,
    }
    shop.space.vectors[:] = 0.0
    assert said(shop, "item-91", **{**ALONE, "trending_by_category": found}, **nowhere_near) == (
        "trending",
        "popular in KIND 3",
    )


def test_what_only_the_catalogue_knows_is_new() -> None:
    shop = RankingShop(sessions=0)
    assert said(shop, "item-1") == ("new", "new in the shop")


def test_a_long_title_is_cut() -> None:
    shop = RankingShop(sessions=0)
    shop.items.put(Item("item-5", "VERY " * 100))
    for user in range(5):
        shop.click(f"other-{user}", "item-5", at_ms=NOW_MS - 5000)
        shop.click(f"other-{user}", "item-90", at_ms=NOW_MS - 4000)
    shop.click("ann", "item-5")
    _, reason = said(shop, "item-90", **ALONE)
    assert reason.endswith("…")
    assert len(reason) < TITLE_CHARS + 30


def test_an_item_that_left_the_catalogue_is_never_named() -> None:
    shop = RankingShop(sessions=0)
    for user in range(5):
        shop.click(f"other-{user}", "item-5", at_ms=NOW_MS - 5000)
        shop.click(f"other-{user}", "item-90", at_ms=NOW_MS - 4000)
    shop.click("ann", "item-5")
    shop.items.remove("item-5")
    context, found = made(shop)
    reasons = [named.reason for named in causes(context, found, range(len(found)))]
    assert not any("item-5" in reason for reason in reasons)
