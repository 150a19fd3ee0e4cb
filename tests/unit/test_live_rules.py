"""Rules at run time: file and topic, what cannot be read, whom a rule is for, what the catalogue changes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from builders import NOW_MS, raw_click
from shops import Shop, ids

from stream.core.items import Item, ItemTable
from stream.core.rules.audience import Audience
from stream.core.rules.book import RuleBook
from stream.core.rules.exclude import Exclude
from stream.core.rules.matching import Match
from stream.core.state import Interaction, Owned, empty

NO_TIN = Exclude(id="no-tin", where=Match(item_ids=("tin",)))


def message(**rule: Any) -> tuple[bytes, bytes]:
    return rule["id"].encode(), json.dumps(rule).encode()


def exclude(item_id: str, rule_id: str = "no-tin") -> tuple[bytes, bytes]:
    return message(id=rule_id, kind="exclude", where={"item_ids": [item_id]})


def in_list(shop: Shop) -> set[str]:
    return set(ids(shop.handle(raw_click("ann", "mug"))[0]))


def test_a_rule_of_the_topic_takes_the_place_of_the_files_and_its_removal_brings_that_back() -> None:
    shop = Shop(written=[NO_TIN])
    assert "tin" not in in_list(shop)
    shop.rules.apply([exclude("jug")])
    assert "tin" in in_list(shop)
    assert "jug" not in in_list(shop)
    shop.rules.apply([(b"no-tin", None)])
    assert "tin" not in in_list(shop)
    assert "jug" in in_list(shop)


def test_a_rule_that_cannot_be_read_is_skipped_counted_and_the_former_goes_on() -> None:
    shop = Shop()
    shop.rules.apply([exclude("tin"), (b"no-tin", b"{"), (b"other", exclude("jug")[1]), (None, b"\xff")])
    assert "tin" not in in_list(shop)
    assert "jug" in in_list(shop)
    assert shop.telemetry.registry.get_sample_value("streamrec_rules_skipped_total") == 3
    assert shop.telemetry.registry.get_sample_value("streamrec_rules") == 1


def test_removing_an_unknown_rule_changes_nothing() -> None:
    shop = Shop(written=[NO_TIN])
    shop.rules.apply([(b"unknown", None), (None, None)])
    assert [rule.id for rule in shop.rules.book.rules] == ["no-tin"]


@pytest.mark.parametrize(
    ("audience", "included"),
    [
        (Audience(), True),
        (Audience(segments=("vip", "staff")), True),
        (Audience(segments=("staff",)), False),
        (Audience(min_purchases=1, max_purchases=1), True),
        (Audience(max_purchases=0), False),
        (Audience(min_interactions=3), False),
        (Audience(max_interactions=2), True),
        (Audience(touched=Match(brands=("acme",))), True),
        (Audience(touched=Match(item_ids=("pot",))), True),
        (Audience(touched=Match(brands=("bolt",))), False),
    ],
)
def test_an_audience_says_which_shoppers_are_meant(audience: Audience, included: bool) -> None:
    items = ItemTable()
    items.put(Item("mug", "Mug", brand="Acme"))
    items.put(Item("pot", "Pot"))
    state = empty("ann")._replace(
        interactions=(Interaction(1, "mug", 0, 0, 1), Interaction(2, "gone", 0, 0, 2)),
        owned=(Owned(1, "pot"),),
    )
    assert audience.includes("vip", state, items) is included


def test_a_book_does_the_work_of_the_one_before_only_for_what_changed() -> None:
    items = ItemTable()
    for name in ("a", "b", "c"):
        items.put(Item(name, name, brand=name))
    looked_at: list[str] = []

    class Counting(Exclude, tag="counting", frozen=True, kw_only=True):
        def concerns(self, item: Item) -> bool:
            looked_at.append(item.item_id)
            return super().concerns(item)

    rule = Counting(id="r", where=Match(brands=("b", "d")))
    first = RuleBook(items, [rule])
    assert first.in_force(NOW_MS, "home", "", empty("ann")).barred_by(1) == "r"
    assert looked_at == ["a", "b", "c"]
    second = RuleBook(items, [rule, NO_TIN], first)
    items.remove("b")
    items.put(Item("d", "d", brand="d"))
    items.put(Item("c", "c", brand="c"))
    force = second.in_force(NOW_MS, "home", "", empty("ann"))
    assert looked_at[3:] == ["d", "c"]
    assert force.barred(np.array([0, 1, 2], np.int32)).tolist() == [False, True, False]
