"""Why an item is in a list, or why not: numbers that add up, and the stage that lost it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, raw_click, raw_search
from hypothesis import given
from hypothesis import strategies as st
from ranking_shop import RankingShop
from shops import Shop, ids

from stream.core import account, ranking
from stream.core.account import TOLERANCE
from stream.core.candidates import gather
from stream.core.policy import Policy
from stream.errors import ModelUnavailable
from stream.lists.explaining import Explainer, Explanation

AWAY = ModelUnavailable("reranker", "unreachable", "nobody there")


def explained(shop: Shop, item_id: str, user_id: str = "ann") -> Explanation:
    explainer = Explainer(
        states=shop.states,
        lists=shop.lists,
        reranker=shop.reranker,
        catalog=shop.catalog,
        policy=shop.policy,
    )
    return asyncio.run(explainer.explain(user_id, item_id))


def busy_shop() -> Shop:
    """A shop where bob's visits tied the mug to the cup, and ann looks at the mug."""
    shop = Shop()
    for offset, item_id in enumerate(["mug", "cup", "jar"]):
        shop.handle(raw_click("bob", item_id, offset=offset, at_ms=NOW_MS - 9_000 + offset))
    shop.learn()
    shop.now_ms += 5_000
    shop.handle(raw_click("ann", "mug", offset=3))
    return shop


# --- contributions


class _Curved:
    """A reranker in which features act in pairs."""

    def __init__(self) -> None:
        self.weights: Any = None

    async def score(self, features: Any, timeout_s: float) -> Any:
        if self.weights is None:
            self.weights = np.random.default_rng(0).standard_normal((2, features.shape[1])).astype(np.float32)
        return np.maximum(features @ self.weights[0], 0) + features @ self.weights[1], "7"


@pytest.mark.parametrize("curved", [False, True])
def test_contributions_add_up_to_the_score_of_the_list(curved: bool) -> None:
    shop = busy_shop()
    if curved:
        shop.reranker = _Curved()  # type: ignore[assignment]
        shop.start()
        shop.learn()
    else:
        shop.reranker.failure = AWAY
    made = shop.handle(raw_click("ann", "mug", offset=4, at_ms=NOW_MS + 1))[0]
    for place, item in enumerate(made.items, start=1):
        found = explained(shop, item.item_id)
        assert found.place == place
        assert found.score is not None
        assert found.score.exact is not curved
        parts = sum(part.by for part in found.score.contributions)
        assert found.score.mean_score + parts == pytest.approx(found.score.score)
        assert found.score.score == pytest.approx(item.score, abs=TOLERANCE * max(1.0, abs(item.score)))


@given(position=st.integers(0, 50), seed=st.integers(0, 100), count=st.sampled_from([2, 3, 16]))
def test_walks_through_linear_weights_give_the_exact_values(position: int, seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    table = random.standard_normal((51, 12)).astype(np.float32)
    weights = random.standard_normal(12).astype(np.float32)
    walks = account.walks(table, position, count, seed)
    values, start = account.credited(walks.rows @ weights, walks)
    np.testing.assert_allclose(values, (table[position] - table.mean(axis=0)) * weights, atol=1e-4)
    assert start == pytest.approx(float(table.mean(axis=0) @ weights), abs=1e-4)


def test_linear_contributions_are_exact_for_every_candidate() -> None:
    shop = RankingShop()
    context = shop.context("user-1")
    found = gather(context, shop.policy)
    scores = ranking.blended(context, found)
    for position in range(len(found)):
        values, mean = account.weighed(context, found, position)
        assert mean + float(values.sum()) == pytest.approx(float(scores[position]), abs=TOLERANCE)


def test_what_a_search_adds_is_one_of_the_parts() -> None:
    shop = busy_shop()
    shop.reranker.failure = AWAY
    made = shop.handle(raw_search("ann", "red pot", at_ms=NOW_MS + 6_000))[0]
    found = explained(shop, ids(made)[0])
    assert found.score is not None
    assert "search" in {part.name for part in found.score.contributions}
    assert found.source == "search"


# --- the list is left alone


def test_explaining_saves_and_publishes_nothing() -> None:
    shop = busy_shop()
    stored, lists = dict(shop.states.stored), len(shop.publisher.lists)
    signals, letters = len(shop.publisher.signals), len(shop.publisher.dead_letters)
    explained(shop, "cup")
    assert shop.states.stored == stored
    assert len(shop.publisher.lists) == lists
    assert (len(shop.publisher.signals), len(shop.publisher.dead_letters)) == (signals, letters)


def test_the_list_that_is_explained_is_the_one_that_went_out() -> None:
    shop = busy_shop()
    made = shop.handle(raw_click("ann", "cup", offset=4, at_ms=NOW_MS + 6_000))[0]
    for place, item in enumerate(made.items, start=1):
        found = explained(shop, item.item_id)
        assert (found.place, found.source, found.reason) == (place, item.source, item.reason)
        assert found.recommendation_id == made.recommendation_id
        assert found.model_versions == made.model_versions


# --- what would have to change


def test_an_item_that_one_event_carries_names_it() -> None:
    shop = Shop(Policy(list_length=1, min_shoppers=1), stocked=True)
    for offset, item_id in enumerate(["mug", "cup"]):
        shop.handle(raw_click("bob", item_id, offset=offset, at_ms=NOW_MS - 9_000 + offset))
    shop.learn()
    shop.now_ms += 5_000
    shop.reranker.failure = AWAY
    shop.handle(raw_click("ann", "mug", offset=2))
    found = explained(shop, "cup")
    assert found.fate.stage == "listed"
    assert found.change.without_item == "mug" or found.change.score is not None


# --- why not


def test_what_is_not_in_the_catalogue_is_unknown() -> None:
    assert explained(busy_shop(), "nobody-knows-it").fate.stage == "unknown"


def test_what_the_shop_does_not_sell_is_unavailable() -> None:
    shop = busy_shop()
    shop.stock({"cup": "blue cup"}, available=False)
    assert explained(shop, "cup").fate.stage == "unavailable"


def test_what_is_held_back_says_for_what() -> None:
    shop = busy_shop()
    shop.stock({"bad": "?? ?? ??"}, quality=0.1, quality_findings=("no_words",))
    found = explained(shop, "bad")
    assert found.fate.stage == "held_back"
    assert "no_words" in found.fate.said


@pytest.mark.parametrize(
    ("kind", "stage"), [("view_item", "in_view"), ("add_to_cart", "in_cart"), ("purchase", "bought")]
)
def test_what_a_shopper_has_already_says_how(kind: str, stage: str) -> None:
    shop = busy_shop()
    shop.handle(raw_click("ann", "jug", kind, offset=4, at_ms=NOW_MS + 1))
    if stage != "in_view":
        shop.handle(raw_click("ann", "tin", offset=5, at_ms=NOW_MS + 2))
    assert explained(shop, "jug").fate.stage == stage


def test_what_no_source_named_says_so() -> None:
    shop = busy_shop()
    policy = Policy(list_length=1)
    shop.policy = policy
    shop.start()
    shop.learn()
    stages = {item_id: explained(shop, item_id).fate.stage for item_id in ("tin", "jug", "lid", "pan")}
    assert set(stages.values()) <= {"no_source", "score", "listed"}


def test_an_item_below_the_list_says_what_its_score_lacks() -> None:
    shop = busy_shop()
    shop.policy = Policy(list_length=2, min_shoppers=1)
    shop.start()
    shop.learn()
    made = shop.handle(raw_click("ann", "mug", offset=4, at_ms=NOW_MS + 1))[0]
    lost = [
        found
        for item_id in ("cup", "pot", "jar", "pan", "lid", "tin", "jug")
        if (found := explained(shop, item_id)).fate.stage == "score"
    ]
    assert lost
    for found in lost:
        assert found.fate.rank is not None
        assert found.fate.rank > 1
        assert found.fate.missing is not None
        assert found.change.score == found.fate.missing
        assert found.score is not None
        assert found.score.score + found.fate.missing >= made.items[-1].score - TOLERANCE


def test_an_item_beyond_the_cap_of_its_category_says_so() -> None:
    shop = busy_shop()
    shop.stock({"mug": "red mug", "cup": "blue cup", "pot": "red tea pot"}, category="CUPS")
    shop.policy = Policy(max_per_category=1)
    shop.start()
    shop.learn()
    made = shop.handle(raw_click("ann", "jar", offset=4, at_ms=NOW_MS + 1))[0]
    lost = {"mug", "cup", "pot"} - set(ids(made)) - {"jar"}
    stages = {item_id: explained(shop, item_id).fate for item_id in lost}
    assert "cap" in {fate.stage for fate in stages.values()}
    assert {fate.rule for fate in stages.values() if fate.stage == "cap"} == {"policy.max_per_category"}


def test_an_explanation_is_json_and_comes_back_the_same() -> None:
    found = explained(busy_shop(), "cup")
    again = msgspec.json.decode(msgspec.json.encode(found), type=Explanation)
    assert again.fate == found.fate
    assert again.change == found.change
