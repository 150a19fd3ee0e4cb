"""Sources of candidates and groups of features: each in one file, registered, true to what it declares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ranking_shop import RankingShop

from stream.core import features, sources
from stream.core.candidates import OFFERS, gather
from stream.core.evidence import evidence
from stream.core.explain import SAYS
from stream.core.features import FEATURES, GROUPS, Group
from stream.core.features.columns import Columns
from stream.core.policy import Policy
from stream.core.sources import SOURCES, Source

POLICY = Policy()


@pytest.fixture(scope="module")
def shop() -> RankingShop:
    return RankingShop()


def _files(package: object, shared: set[str]) -> int:
    folder = Path(str(package.__file__)).parent  # type: ignore[attr-defined]
    return len({file.stem for file in folder.glob("*.py")} - {"__init__", *shared})


def test_every_file_of_a_source_is_registered_once() -> None:
    assert len(SOURCES) == _files(sources, {"source"})
    assert len({source.name for source in SOURCES}) == len(SOURCES)


def test_every_file_of_a_group_of_features_is_registered_once() -> None:
    assert len(GROUPS) == _files(features, {"columns"})
    assert len(set(FEATURES)) == len(FEATURES)


def test_there_are_bits_enough_for_all_that_offers_candidates() -> None:
    assert len(OFFERS) <= 32


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_source_names_no_more_than_it_declares(source: Source, shop: RankingShop) -> None:
    for number in range(20):
        known = evidence(shop.context(f"user-{number}"), POLICY)
        assert len(source.find(known)) <= source.limit


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_source_finds_nothing_wrong_for_a_stranger(source: Source, shop: RankingShop) -> None:
    found = source.find(evidence(shop.context("nobody"), POLICY))
    assert ((found >= 0) & (found < len(shop.items.available))).all()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_source_is_known_to_reasons_under_its_cause(source: Source) -> None:
    assert (source.cause or source.name) in SAYS


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_a_group_computes_finite_columns_for_anyone(group: Group, shop: RankingShop) -> None:
    for user_id in ("user-3", "nobody"):
        context = shop.context(user_id)
        found = gather(context, POLICY)
        table = np.zeros((len(group.names), len(found)), np.float32)
        group.compute(Columns.of(context, found), table)
        assert np.isfinite(table).all()


def test_an_item_of_a_session_like_this_one_comes_before_one_of_another() -> None:
    shop = RankingShop(items=60, sessions=0)
    for number in range(12):
        alike = ("item-1", "item-2", "item-3") if number % 2 else ("item-20", "item-2", "item-30")
        for item_id in alike:
            shop.click(f"other-{number}", item_id)
    for item_id in ("item-1", "item-2"):
        shop.click("ann", item_id)
    companions = evidence(shop.context("ann"), POLICY).neighbours.companions()
    assert companions[shop.slot("item-3")] > 2 * companions[shop.slot("item-30")] > 0
