"""Splits of `model-factory prepare`, and when two wordings are one."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_factory.preparation import pairs
from model_factory.preparation.queries import Catalogue
from model_factory.preparation.sources import Offer, Product, Rejected, Sale
from model_factory.preparation.splits import FOLDS, Shares, by_category, by_key, by_time, folds
from model_factory.preparation.wording import Queries, groups, key, stem

WORDS = ("usb", "cable", "cables", "black", "mouse", "toner", "hp", "16gb", "monitor")
QUERIES = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join), unique=True)
SHARES = Shares(0.2, 0.2)


def test_plural_order_fillers_and_case_make_no_other_query() -> None:
    assert key("Batteries for the Mouse") == key("mouse battery")
    assert key("16 GB memory") == key("memory 16gb")
    assert key("red mouse") != key("mouse")
    assert [stem(word) for word in ("boxes", "glass", "bus", "accessories")] == [
        "box",
        "glass",
        "bus",
        "accessory",
    ]


@pytest.mark.parametrize("near", ["laptop", "Laptops", "lapto", "lap top", "laptopp", "laqtop", "alptop"])
def test_a_query_up_to_a_typing_error_is_near(near: str) -> None:
    assert Queries(["laptop"]).near(near)


@pytest.mark.parametrize("other", ["laptop case", "desktop", "tv", "hp laptop"])
def test_a_query_with_another_word_is_not_near(other: str) -> None:
    assert not Queries(["laptop", "tvs hd"]).near(other)


def test_short_queries_are_near_only_if_they_are_the_same() -> None:
    assert not Queries(["ps4"]).near("ps5")
    assert not Queries(["iphone 11"]).near("iphone 12")
    assert Queries(["iphone 11"]).near("ihpone 11")
    assert Queries(["tv"]).near("tvs") is False
    assert Queries(["usb hub"]).near("hub usb")


@given(QUERIES)
def test_near_queries_are_in_one_fold(queries: list[str]) -> None:
    chosen = folds(dict.fromkeys(queries, 3), seed=1)
    assert chosen.keys() == set(queries)
    for left in queries:
        for right in queries:
            if Queries([left]).near(right):
                assert chosen[left] == chosen[right]


def test_folds_are_of_much_the_same_size() -> None:
    sizes: Counter[int] = Counter()
    judgements = {f"model {place:03}": 1 + place % 7 for place in range(100)}
    for query, fold in folds(judgements, seed=0).items():
        sizes[fold] += judgements[query]
    assert len(sizes) == FOLDS
    assert max(sizes.values()) - min(sizes.values()) <= 7


def test_a_chain_of_near_queries_is_one_group() -> None:
    assert groups(["monitor", "desk", "monitors", "monito"]) == [["monitor", "monitors", "monito"], ["desk"]]


def test_keys_are_split_by_their_shares_and_the_seed() -> None:
    names = [f"cluster {number}" for number in range(4_000)]
    counts = Counter(by_key(name, Shares(0.05, 0.1), seed=3) for name in names)
    assert counts["test"] == pytest.approx(400, abs=80)
    assert counts["validation"] == pytest.approx(200, abs=60)
    assert [by_key(name, SHARES, 3) for name in names] != [by_key(name, SHARES, 4) for name in names]
    assert [by_key(name, SHARES, 3) for name in names] == [by_key(name, SHARES, 3) for name in names]


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        Shares(0.5, 0.5)


def test_the_last_in_time_are_the_test() -> None:
    split = by_time(range(10), SHARES)
    assert [split[place] for place in range(10)] == ["train"] * 6 + ["validation"] * 2 + ["test"] * 2


def test_a_cluster_in_two_categories_is_kept_furthest_apart() -> None:
    found = by_category(
        {"a": {"TVs", "Phones"}, "b": {"Dishwashers", "Phones"}, "c": {"Phones"}}, ["Dishwashers"], ["TVs"]
    )
    assert found == {"a": "test", "b": "validation", "c": "train"}


@given(st.integers(0, 50))
def test_no_query_and_no_product_is_in_two_splits(seed: int) -> None:
    generator = random.Random(seed)
    products = [
        Product(
            str(n),
            f"{generator.choice(WORDS)} {generator.choice(WORDS)} {n}",
            "",
            "hp",
            generator.choice(WORDS),
            {},
        )
        for n in range(40)
    ]
    texts = [product.title for product in products]
    split = [by_key(product.item_id, SHARES, seed) for product in products]
    rejected = Rejected()
    made = pairs.query_pairs(
        products, texts, [{}] * 40, split, Catalogue(), Queries(["toner"]), SHARES, seed, rejected
    )  # fmt: skip
    splits_of = defaultdict(set)
    for pair in made:
        splits_of[pair.group].add(pair.split)
        splits_of[pair.positive].add(pair.split)
        assert not Queries(["toner"]).near(pair.anchor)
    assert made
    assert all(len(found) == 1 for found in splits_of.values())


def test_the_same_seed_makes_the_same_pairs_and_another_seed_others() -> None:
    products = [Product(str(n), f"ACME TX-{n} mouse black", "", "ACME", "mouse", {}) for n in range(30)]
    texts = [product.title for product in products]

    def made(seed: int) -> list[pairs.Pair]:
        return pairs.query_pairs(
            products, texts, [{}] * 30, ["train"] * 30, Catalogue(), Queries([]), SHARES, seed, Rejected()
        )

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_offers_are_paired_within_their_cluster_only() -> None:
    offers = [
        Offer("1", "bosch sms25 dishwasher white", "a", "Bosch SMS25 White", "Dishwashers"),
        Offer("2", "sms25 by bosch 60cm", "a", "Bosch SMS25 White", "Dishwashers"),
        Offer("3", "beko df15 dishwasher", "b", "Beko DF15", "Dishwashers"),
    ]
    made = pairs.offer_pairs(offers, {"a": "validation", "b": "validation"}, {}, seed=0)
    titles = {"a": {offers[0].title, offers[1].title}, "b": {offers[2].title}}
    assert {(pair.anchor, pair.positive) for pair in made if pair.source == "offers"} == {
        (offers[0].title, offers[1].title),
        (offers[1].title, offers[0].title),
    }
    assert all(pair.positive in titles[pair.group.removeprefix("cluster ")] for pair in made)
    assert {pair.split for pair in made} == {"validation"}


def test_baskets_are_split_by_time_and_no_pair_is_in_two_splits() -> None:
    start = datetime(2011, 1, 1)
    sales = [
        Sale(f"{number:04}", code, f"thing {code}", start + timedelta(hours=number))
        for number in range(100)
        for code in (("11111", "22222") if number % 2 else ("33333", "44444" if number < 80 else "55555"))
    ]
    made = pairs.basket_pairs(sales, pairs.item_names(sales, str), SHARES, Rejected())
    assert {(pair.anchor[-5:], pair.positive[-5:], pair.split) for pair in made} == {
        ("11111", "22222", "train"),
        ("22222", "11111", "train"),
        ("33333", "44444", "train"),
        ("44444", "33333", "train"),
        ("33333", "55555", "test"),
        ("55555", "33333", "test"),
    }
