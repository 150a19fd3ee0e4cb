"""The table of items: slots, columns, and when remembered slots go wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.items import LARGEST_PRICE, Item, ItemTable, margin_of


def test_an_item_is_found_by_id_and_by_slot() -> None:
    table = ItemTable()
    item = Item("mug", "red mug", price=2.5, category="home > cups", first_seen_ms=7)
    slot = table.put(item)
    assert table.get("mug") is table.at(slot) is item
    assert table.slot("mug") == slot
    assert "mug" in table
    assert len(table) == 1
    assert list(table) == [item]
    assert table.available[slot]
    assert table.price[slot] == 2.5
    assert table.category_names[table.category[slot]] == "home > cups"
    assert table.first_seen_ms[slot] == 7


def test_what_is_not_known_is_none() -> None:
    table = ItemTable()
    assert table.get("mug") is table.slot("mug") is table.remove("mug") is None
    assert "mug" not in table


def test_an_item_without_a_price_has_none_any_more() -> None:
    table = ItemTable()
    slot = table.put(Item("mug", "red mug", price=2.5))
    assert table.put(Item("mug", "red mug")) == slot
    assert np.isnan(table.price[slot])


def test_an_item_keeps_its_slot_while_it_changes() -> None:
    table = ItemTable()
    slot = table.put(Item("mug", "red mug", category="a"))
    table.put(Item("cup", "blue cup", category="b"))
    generation = table.generation
    assert table.put(Item("mug", "red mug", category="b", available=False)) == slot
    assert not table.available[slot]
    assert table.category[slot] == table.category[1]
    assert table.generation == generation


def test_a_removal_frees_the_slot_and_says_when() -> None:
    table = ItemTable()
    slot = table.put(Item("mug", "red mug"))
    before = table.generation
    assert table.remove("mug") == slot
    assert table.generation > before
    assert table.freed_at[slot] > before
    assert not table.available[slot]
    with pytest.raises(KeyError):
        table.at(slot)
    assert table.put(Item("cup", "blue cup")) == slot
    assert table.freed_at[slot] > before


def test_the_table_grows_and_keeps_what_it_has() -> None:
    table = ItemTable(capacity=2)
    for number in range(100):
        table.put(Item(f"item-{number}", "thing", price=float(number)))
    assert len(table.available) == len(table.price) == len(table.freed_at) >= 100
    for number in range(100):
        slot = table.slot(f"item-{number}")
        assert slot is not None
        assert table.price[slot] == number


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.booleans()), max_size=40))
def test_any_changes_leave_the_table_as_a_dict_would_be(
    changes: list[tuple[bool, int, bool]],
) -> None:
    table, expected = ItemTable(capacity=1), {}
    for put, number, available in changes:
        item_id = f"item-{number}"
        if put:
            expected[item_id] = Item(item_id, f"title {available}", available=available)
            table.put(expected[item_id])
        else:
            table.remove(item_id)
            expected.pop(item_id, None)
    assert {item.item_id: item for item in table} == expected
    assert len(table) == len(expected)
    slots = [table.slot(item_id) for item_id in expected]
    assert len(set(slots)) == len(slots)
    offered = {table.at(int(slot)).item_id for slot in np.flatnonzero(table.available)}
    assert offered == {item_id for item_id, item in expected.items() if item.available}


def test_the_text_to_encode_is_title_and_description() -> None:
    assert Item("mug", "red mug").text == "red mug"
    assert Item("mug", "red mug", description="for tea").text == "red mug for tea"


def test_a_price_beyond_what_is_compared_counts_as_the_greatest() -> None:
    table = ItemTable(4)
    assert table.price[table.put(Item("mug", "Mug", price=1e308))] == np.float32(LARGEST_PRICE)


@pytest.mark.parametrize("margin", [10**400, -(10**400), True, "1", float("nan"), float("inf"), None])
def test_a_margin_that_is_no_finite_number_is_none(margin: object) -> None:
    assert margin_of({"margin": margin}) is None
