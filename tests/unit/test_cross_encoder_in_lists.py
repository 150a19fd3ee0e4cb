"""How the cross-encoder shapes the list of a search, and what a list does without it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from builders import NOW_MS, minutes, raw_click, raw_search
from shops import Shop, ids

from stream.core.events import RecommendationList
from stream.core.items import FloatArray
from stream.core.search import CROSS_BEST
from stream.errors import ModelUnavailable
from stream.ports import RawMessage

AWAY = ModelUnavailable("cross_encoder", "deadline", "no answer in 150 ms")
RERANKER_AWAY = ModelUnavailable("reranker", "deadline", "no answer in 100 ms")
ENCODER_AWAY = ModelUnavailable("encoder", "unreachable", "nobody there")


class _Prefers:
    """A cross-encoder that finds one text good and all others bad."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def score(self, pairs: Sequence[tuple[str, str]], timeout_s: float) -> tuple[FloatArray, str]:
        return np.array([float(right == self.text) for _, right in pairs], np.float32), "7"


def _order(shop: Shop, *item_ids: str) -> list[str]:
    made = shop.handle(raw_search("ann", "red"))[0]
    return [item_id for item_id in ids(made) if item_id in item_ids]


def test_what_the_cross_encoder_finds_better_comes_first() -> None:
    plain = _order(Shop(), "mug", "pot")
    assert plain == ["mug", "pot"]  # both have the word; the shorter title is nearer
    shop = Shop()
    shop.stock({"bag": "red hat bag"})
    shop.cross_encoder = _Prefers("red tea pot")  # type: ignore[assignment]
    shop.start()
    assert _order(shop, "pot", "bag") == ["pot", "bag"]
    shop.cross_encoder = _Prefers("red hat bag")  # type: ignore[assignment]
    shop.start()
    shop.now_ms += 1
    assert _order(shop, "pot", "bag") == ["bag", "pot"]


def test_the_list_of_a_search_names_the_version_that_read_it() -> None:
    made = Shop().handle(raw_search("ann", "red mug"))[0]
    assert made.model_versions == {"encoder": "1", "reranker": "1", "cross_encoder": "1"}
    assert made.degraded == []


def test_a_list_without_a_search_asks_nothing_and_names_nothing() -> None:
    shop = Shop()
    made = shop.handle(raw_click())[0]
    assert "cross_encoder" not in made.model_versions
    assert shop.cross_encoder.calls == []


def test_only_the_best_matches_of_a_search_are_read() -> None:
    shop = Shop()
    shop.stock({f"red-{number}": f"red thing number {number}" for number in range(40)})
    shop.handle(raw_search("ann", "red mug"))
    pairs = [pair for call in shop.cross_encoder.calls for pair in call]
    assert len(pairs) == CROSS_BEST
    assert ("red mug", "red mug") in pairs


def test_shoppers_who_search_for_the_same_are_read_once() -> None:
    shop = Shop()
    shop.handle(raw_search("ann", "red mug", offset=0), raw_search("bob", " RED  mug", offset=1))
    pairs = [pair for call in shop.cross_encoder.calls for pair in call]
    assert len(pairs) == len(set(pairs))
    assert {left for left, _ in pairs} == {"red mug"}


# --- the ladder: each step shows in `degraded`


def _made_without(shop: Shop, message: RawMessage | None = None) -> RecommendationList:
    made = shop.handle(message or raw_search("ann", "red mug"))[0]
    assert ids(made)[0] == "mug"
    return made


def test_without_the_cross_encoder_reranker_and_vectors_make_the_list() -> None:
    shop = Shop()
    shop.cross_encoder.failure = AWAY
    made = _made_without(shop)
    assert made.degraded == ["cross_encoder"]
    assert made.model_versions == {"encoder": "1", "reranker": "1"}


def test_a_cross_encoder_that_hangs_is_not_waited_for() -> None:
    shop = Shop()
    shop.cross_encoder.hangs = True
    assert _made_without(shop).degraded == ["cross_encoder"]


def test_without_the_reranker_too_blended_scores_make_the_list() -> None:
    shop = Shop()
    shop.cross_encoder.failure = AWAY
    shop.reranker.failure = RERANKER_AWAY
    assert _made_without(shop).degraded == ["cross_encoder", "reranker"]


def test_without_any_model_words_make_the_list() -> None:
    shop = Shop()
    shop.cross_encoder.failure = AWAY
    shop.reranker.failure = RERANKER_AWAY
    shop.encoder.failure = ENCODER_AWAY
    assert _made_without(shop).degraded == ["encoder", "cross_encoder", "reranker"]


def test_without_the_reranker_alone_the_cross_encoder_still_reads() -> None:
    shop = Shop()
    shop.reranker.failure = RERANKER_AWAY
    made = _made_without(shop)
    assert made.degraded == ["reranker"]
    assert made.model_versions == {"encoder": "1", "cross_encoder": "1"}


def test_a_repeated_search_asks_nothing_and_lacks_nothing_while_the_model_is_away() -> None:
    shop = Shop()
    first = shop.handle(raw_search("ann", "red mug", offset=0))[0]
    asked = len(shop.cross_encoder.calls)
    shop.cross_encoder.failure = AWAY
    again = shop.handle(raw_search("bob", "Red Mug", offset=1))[0]
    assert len(shop.cross_encoder.calls) == asked
    assert again.degraded == []
    assert again.model_versions["cross_encoder"] == "1"
    assert ids(again) == ids(first)


def test_an_item_with_a_new_text_is_read_again() -> None:
    shop = Shop()
    shop.handle(raw_search("ann", "red mug", offset=0))
    shop.stock({"mug": "red mug of stoneware"})
    shop.handle(raw_search("ann", "red mug", offset=1, at_ms=NOW_MS + 1))
    assert shop.cross_encoder.calls[-1] == [("red mug", "red mug of stoneware")]


def test_scores_that_are_no_numbers_do_not_reach_a_list() -> None:
    class Odd:
        async def score(self, pairs: Any, timeout_s: float) -> tuple[FloatArray, str]:
            return np.full(len(pairs), np.nan, np.float32), "1"

    shop = Shop()
    shop.cross_encoder = Odd()  # type: ignore[assignment]
    shop.start()
    made = shop.handle(raw_search("ann", "red mug"))[0]
    assert made.items
    assert np.isfinite([item.score for item in made.items]).all()


# --- pairs of items, in the background


def _work_off(shop: Shop) -> None:
    asyncio.run(shop.background.work_off())


def test_neighbours_of_the_item_in_view_are_read_later_and_never_for_the_event() -> None:
    shop = Shop()
    shop.stock({"mug-2": "red mug two"})
    shop.handle(raw_click("ann", "mug"))
    assert shop.cross_encoder.calls == []
    _work_off(shop)
    assert ("red mug", "red mug two") in [pair for call in shop.cross_encoder.calls for pair in call]


def test_what_the_cross_encoder_finds_unlike_is_not_said_to_be_similar() -> None:
    shop = Shop()
    shop.stock({"mug-2": "red mug two"})
    before = shop.handle(raw_click("ann", "mug"))[0]
    assert {i.item_id: i.reason for i in before.items}["mug-2"] == "similar to red mug"
    shop.background._cross_encoder = _Prefers("nothing")  # type: ignore[assignment]
    _work_off(shop)
    shop.now_ms += 1
    after = shop.handle(raw_click("bob", "mug", offset=1, at_ms=NOW_MS + minutes(1)))[0]
    assert "similar to red mug" not in {item.reason for item in after.items}
    assert sorted(ids(after)) == sorted(ids(before))


def test_a_background_that_hangs_delays_no_list() -> None:
    async def body() -> None:
        shop.cross_encoder.hangs = True
        working = asyncio.ensure_future(shop.background.work_off())
        while not shop.cross_encoder.calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for offset in range(1, 4):
            await shop.worker.handle([raw_click("bob", "mug", offset=offset)])
            assert not working.done()
        working.cancel()

    shop = Shop()
    shop.stock({"mug-2": "red mug two"})
    shop.handle(raw_click("ann", "mug"))
    asyncio.run(body())
    assert [made.degraded for made in shop.publisher.lists] == [[]] * 4
