"""Results that a shop sends with a search come back, all of them, in an order of the engine's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from builders import NOW_MS, raw_click, raw_search
from hypothesis import given
from hypothesis import strategies as st
from ranking_shop import RankingShop
from shops import TITLES, Shop, check_lists, ids

from stream.core import personal_search
from stream.core.candidates import gather
from stream.core.events import MAX_RESULTS, RecommendationList, decode_search, list_key
from stream.core.items import Item, ItemTable
from stream.errors import InvalidMessage, ModelUnavailable

ALL = list(TITLES)


def both(shop: Shop, *messages: Any) -> tuple[RecommendationList, RecommendationList]:
    """The reordered results and the recommendations that one batch led to."""
    results, recommendations = shop.handle(*messages)
    return results, recommendations


def asked(*item_ids: str, user: str = "ann", query: str = "red mug", **more: Any) -> Any:
    return raw_search(user, query, result_item_ids=list(item_ids), **more)


# --- the order


@given(
    named=st.lists(st.integers(0, 30), unique=True, max_size=25),
    scores=st.lists(st.floats(width=32), min_size=20, max_size=20),
    gone=st.sets(st.integers(0, 19)),
)
def test_whatever_the_scores_every_result_comes_back_once_and_scores_never_grow(named, scores, gone) -> None:
    shop = RankingShop(items=20, sessions=0)  # items 20 to 30 are unknown
    results = [f"item-{number}" for number in named]
    found = gather(shop.context("ann"), shop.policy, personal_search.slots_of(results, shop.items))
    stays = np.array([int(slot) not in gone for slot in found.slots], np.bool_)
    places = personal_search.ordered(
        results, shop.items, found, np.array(scores[: len(found)], np.float32), stays
    )
    assert sorted(place.item_id for place in places) == sorted(results)
    made = [place.score for place in places]
    assert made == sorted(made, reverse=True)
    assert all(math.isfinite(score) for score in made)


def test_an_unknown_result_keeps_its_place_and_one_that_cannot_be_had_comes_last() -> None:
    items = ItemTable()
    for name in "abcd":
        items.put(Item(name, name))
    shop = RankingShop(sessions=0)
    shop.items = items
    results = ["a", "unknown", "b", "c", "d"]
    context = shop.context("ann", new_items=np.zeros(0, np.int32))
    found = gather(context, shop.policy, personal_search.slots_of(results, items))
    stays = np.array([True, False, True, True])  # b is gone
    scores = np.array([1.0, 9.0, 3.0, 2.0], np.float32)
    places = personal_search.ordered(results, items, found, scores, stays)
    assert [place.item_id for place in places] == ["c", "unknown", "d", "a", "b"]


def test_equal_results_stay_as_the_shop_had_them() -> None:
    shop = RankingShop(sessions=0)
    results = ["item-9", "item-3", "item-5"]
    found = gather(shop.context("ann"), shop.policy, personal_search.slots_of(results, shop.items))
    places = personal_search.ordered(results, shop.items, found, np.ones(3, np.float32), np.ones(3, np.bool_))
    assert [place.item_id for place in places] == results


# --- the lists


def test_a_search_with_results_is_answered_with_exactly_those() -> None:
    shop = Shop()
    results, recommendations = both(shop, asked("jar", "lid", "nobody-knows-it", "mug"))
    assert sorted(ids(results)) == ["jar", "lid", "mug", "nobody-knows-it"]
    assert ids(results)[0] == "mug"
    assert ids(results)[2] == "nobody-knows-it"
    assert results.placement == "search"
    assert results.reordered
    assert [item.rank for item in results.items] == [1, 2, 3, 4]
    assert results.trigger.event_id == recommendations.trigger.event_id


def test_the_recommendations_go_on_and_are_for_the_home_page() -> None:
    shop = Shop()
    _, recommendations = both(shop, asked("jar", "mug", placement="results-page"))
    assert recommendations.placement == "home"
    assert not recommendations.reordered
    other = Shop()
    plain = other.handle(raw_search("ann", "red mug"))[0]
    assert ids(recommendations) == ids(plain)


def test_results_carry_the_placement_that_the_search_names() -> None:
    results, _ = both(Shop(), asked("jar", "mug", placement="results-page"))
    assert results.placement == "results-page"


def test_results_never_take_the_place_of_recommendations_in_a_compacted_topic() -> None:
    results, recommendations = both(Shop(), asked("jar", "mug"))
    assert list_key(recommendations) == b"ann"
    assert list_key(results) == b"ann\x00search"


def test_the_recommendations_have_the_greater_sequence_and_are_written_last() -> None:
    """A reader that knows nothing of placements ends with the recommendations."""
    shop = Shop()
    shop.handle(raw_click("ann", "mug", offset=0))
    shop.handle(asked("jar", "mug", offset=0), asked("lid", "mug", offset=1, placement="aside"))
    shop.handle(raw_click("ann", "cup", offset=1))
    assert [made.reordered for made in shop.publisher.lists] == [False, True, True, False, False]
    sequences = [made.sequence for made in shop.publisher.lists]
    assert sequences == sorted(set(sequences))
    check_lists(shop.publisher.lists)
    assert shop.state("ann").sequence == sequences[-1]
    assert len({made.recommendation_id for made in shop.publisher.lists}) == 5


def test_of_several_searches_for_one_placement_the_newest_is_answered() -> None:
    results, _ = both(Shop(), asked("jar", "mug", offset=0), asked("lid", "pan", offset=1))
    assert sorted(ids(results)) == ["lid", "pan"]


def test_results_are_answered_though_a_click_came_in_the_same_batch() -> None:
    shop = Shop()
    results, recommendations = both(
        shop, asked("jar", "mug", at_ms=NOW_MS - 5), raw_click("ann", "cup", at_ms=NOW_MS)
    )
    assert results.trigger.topic == "searches"
    assert recommendations.trigger.topic == "clicks"


def test_a_search_without_results_leads_to_one_list_as_ever() -> None:
    [made] = Shop().handle(raw_search("ann", "red mug", result_item_ids=[]))
    assert not made.reordered


def test_what_is_bought_in_view_or_in_the_cart_is_not_left_out_of_results() -> None:
    shop = Shop()
    shop.handle(raw_click("ann", "mug", "purchase", offset=0), raw_click("ann", "pot", offset=1))
    results, _ = both(shop, asked("mug", "pot"))
    assert sorted(ids(results)) == ["mug", "pot"]


def test_what_cannot_be_had_comes_last_and_says_so() -> None:
    shop = Shop()
    shop.stock({"mug": "red mug"}, available=False)
    results, _ = both(shop, asked("mug", "jar"))
    assert ids(results) == ["jar", "mug"]
    assert results.items[1].reason == "not to be had right now"


# --- relevance and taste


def test_a_shopper_without_a_history_gets_pure_relevance_and_no_model_of_taste_is_asked() -> None:
    shop = Shop()
    results, _ = both(shop, asked(*ALL))
    assert shop.reranker.calls == 1  # for the recommendations
    assert "reranker" not in results.model_versions
    other = Shop()
    other.handle(raw_click("bob", "jug", offset=0), raw_click("bob", "tin", offset=1))
    other.learn()
    assert ids(both(other, asked(*ALL))[0]) == ids(results)


def test_results_like_what_a_shopper_looked_at_rise_and_say_why() -> None:
    shop = Shop()
    shop.reranker.failure = ModelUnavailable("reranker", "unreachable", "nobody there")
    neutral, _ = both(shop, asked("pan", "lid", "tin", query="lid tin"))
    shop.stock({"pot": "iron pot"})
    shop.handle(raw_click("bob", "pot", offset=0))
    personal, _ = both(shop, asked("pan", "lid", "tin", query="lid tin", user="bob"))
    assert ids(neutral)[0] == "tin"
    assert ids(personal)[0] == "lid"
    [lid] = [item for item in personal.items if item.item_id == "lid"]
    assert lid.source == "search"
    assert lid.reason == "matches your search for lid tin, similar to iron pot"


def test_taste_that_is_no_number_counts_nothing() -> None:
    made = personal_search.taste(
        np.array([1.0, np.inf, np.nan], np.float32), np.array([0.5, np.inf, 1.0], np.float32)
    )
    assert made.tolist() == [0.5, 0.0, 0.0]


# --- without a model


@pytest.mark.parametrize("part", ["encoder", "reranker", "cross_encoder"])
def test_results_without_a_model_say_so_and_are_whole(part: str) -> None:
    shop = Shop()
    shop.handle(raw_click("ann", "jug"))
    getattr(shop, part).failure = ModelUnavailable(part, "unreachable", "nobody there")
    results, _ = both(shop, asked(*ALL))
    assert results.degraded == [part]
    assert sorted(ids(results)) == sorted(ALL)
    assert ids(results)[0] == "mug"
    if part != "encoder":  # it serves the catalogue still
        assert part not in results.model_versions


# --- what may be sent


def test_more_results_than_are_allowed_are_refused() -> None:
    decode_search(*asked(*(f"item-{number}" for number in range(MAX_RESULTS)))[:3])
    with pytest.raises(InvalidMessage, match="result_item_ids"):
        decode_search(*asked(*(f"item-{number}" for number in range(MAX_RESULTS + 1)))[:3])


@pytest.mark.parametrize("wrong", ["", "  ", "a\x00b", "x" * 257])
def test_a_result_that_is_no_item_id_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidMessage, match=r"result_item_ids\[1\]|result_item_ids"):
        decode_search(*asked("mug", wrong)[:3])


def test_a_result_named_twice_counts_once() -> None:
    assert decode_search(*asked("mug", "cup", "mug")[:3]).results == ("mug", "cup")
