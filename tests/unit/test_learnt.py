"""What a worker remembers of the signal store: rows by slot, popularity, what trends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from builders import NOW_MS

from stream.core.items import Item, ItemTable
from stream.core.signals import NEGLIGIBLE, POPULARITY_DAYS, Increment, fold
from stream.errors import StateUnavailable
from stream.fakes import MemorySignalStore
from stream.ports import VersionedSignals
from stream.signals.learnt import ROW_AGE_S, LearntItems
from stream.telemetry.metrics import Telemetry


class CountingStore(MemorySignalStore):
    """Notes what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[list[str]] = []

    async def load(self, item_ids: Sequence[str]) -> dict[str, VersionedSignals]:
        self.reads.append(list(item_ids))
        return await super().load(item_ids)


class Bench:
    """Items in a table, their rows in a store, and what a worker remembers of them."""

    def __init__(self, *item_ids: str) -> None:
        self.store = CountingStore()
        self.items = ItemTable(capacity=4)
        self.now_s = 1_000.0
        self.learnt = LearntItems(self.store, self.items, lambda: self.now_s, 1, Telemetry())
        for item_id in item_ids:
            self.put(item_id)

    def put(self, item_id: str, category: str = "") -> None:
        self.items.put(Item(item_id, item_id, category=category))
        self.learnt.place(item_id)

    def learn(self, item_id: str, offset: int = 0, *neighbours: str) -> None:
        stored = self.store.rows.get(item_id)
        increment = Increment("clicks/0", offset, NOW_MS, 1.0, [(name, 1.0) for name in neighbours])
        row = fold(stored.signals if stored else None, [increment])
        version = stored.version if stored else 0
        asyncio.run(self.store.save({item_id: VersionedSignals(row, version)}))

    def neighbours(self, item_id: str) -> list[str]:
        view = asyncio.run(self.learnt.rows([item_id])).get(item_id)
        return [self.items.at(int(slot)).item_id for slot in view.slots] if view else []

    def refresh(self) -> list[str]:
        asyncio.run(self.learnt.refresh())
        return [self.items.at(int(slot)).item_id for slot in self.learnt.trending.slots]

    def popularity(self, item_id: str) -> float:
        slot = self.items.slot(item_id)
        assert slot is not None
        return float(self.learnt.popularity[slot, 0])


def test_rows_are_given_by_slot_and_items_without_any_are_left_out() -> None:
    bench = Bench("mug", "cup", "pot")
    bench.learn("mug", 0, "cup", "pot", "unheard-of")
    assert set(asyncio.run(bench.learnt.rows(["mug", "cup"]))) == {"mug"}
    assert bench.neighbours("mug") == ["cup", "pot"]


def test_a_row_is_read_once_and_again_when_it_is_old() -> None:
    bench = Bench("mug", "cup")
    bench.learn("mug", 0, "cup")
    for _ in range(3):
        asyncio.run(bench.learnt.rows(["mug", "cup"]))
    assert bench.store.reads == [["mug", "cup"]]  # that an item has none is remembered too
    bench.now_s += ROW_AGE_S + 0.1
    asyncio.run(bench.learnt.rows(["mug"]))
    assert bench.store.reads[1:] == [["mug"]]


def test_a_row_that_changed_is_seen_after_a_while() -> None:
    bench = Bench("mug", "cup", "pot")
    bench.learn("mug", 0, "cup")
    assert bench.neighbours("mug") == ["cup"]
    bench.learn("mug", 1, "pot")
    bench.now_s += ROW_AGE_S + 0.1
    assert bench.neighbours("mug") == ["cup", "pot"]


def test_a_slot_given_to_another_item_is_not_mistaken_for_the_old_one() -> None:
    bench = Bench("mug", "cup")
    bench.learn("mug", 0, "cup")
    assert bench.neighbours("mug") == ["cup"]
    slot = bench.items.remove("cup")
    bench.put("pot")
    assert bench.items.slot("pot") == slot
    assert bench.neighbours("mug") == []


def test_without_the_store_remembered_rows_are_given_and_others_are_waited_for() -> None:
    bench = Bench("mug", "cup")
    bench.learn("mug", 0, "cup")
    assert bench.neighbours("mug") == ["cup"]
    bench.store.failure = StateUnavailable("away")
    assert bench.neighbours("mug") == ["cup"]
    with pytest.raises(StateUnavailable):
        asyncio.run(bench.learnt.rows(["cup", "pot"]))


def test_popularity_is_known_by_slot_after_a_refresh() -> None:
    bench = Bench("mug", "cup")
    bench.learn("mug")
    assert bench.popularity("mug") == NEGLIGIBLE
    bench.refresh()
    assert bench.popularity("mug") > 0
    assert bench.popularity("cup") == NEGLIGIBLE


def test_the_most_popular_of_today_trends_first() -> None:
    bench = Bench("mug", "cup", "pot")
    for offset in range(3):
        bench.learn("cup", offset)
    bench.learn("mug", 9)
    assert bench.refresh() == ["cup", "mug"]


def test_what_trends_is_known_by_category() -> None:
    bench = Bench()
    bench.put("mug", "cups")
    bench.put("lamp", "lights")
    bench.put("desk", "")
    for item_id in ("mug", "lamp", "desk"):
        bench.learn(item_id)
    bench.refresh()
    numbers = {name: number for number, name in enumerate(bench.items.category_names)}
    assert set(bench.learnt.trending_by_category) == {numbers["cups"], numbers["lights"]}
    assert bench.learnt.trending_by_category[numbers["cups"]].slots.tolist() == [bench.items.slot("mug")]


def test_an_item_that_comes_after_its_signals_is_popular_at_once() -> None:
    bench = Bench()
    bench.learn("mug")
    bench.refresh()
    bench.put("mug")
    assert bench.popularity("mug") > 0
    assert bench.refresh() == ["mug"]


def test_an_item_that_takes_the_slot_of_a_popular_one_is_not_popular() -> None:
    bench = Bench("mug")
    bench.learn("mug")
    bench.refresh()
    bench.items.remove("mug")
    bench.put("cup")
    assert bench.popularity("cup") == NEGLIGIBLE
    assert bench.refresh() == []
    bench.put("mug")
    assert bench.refresh() == ["mug"]


def test_popularity_grows_with_the_table() -> None:
    bench = Bench()
    for number in range(50):
        bench.put(f"item-{number}")
        bench.learn(f"item-{number}")
    bench.refresh()
    assert bench.learnt.popularity.shape == (len(bench.items.available), len(POPULARITY_DAYS))
    assert all(np.isfinite(bench.popularity(f"item-{number}")) for number in range(50))


def test_a_refresh_without_the_store_keeps_what_was_known() -> None:
    bench = Bench("mug")
    bench.learn("mug")
    assert bench.refresh() == ["mug"]
    bench.store.failure = StateUnavailable("away")
    with pytest.raises(StateUnavailable):
        asyncio.run(bench.learnt.refresh())
    assert bench.learnt.trending.slots.tolist() == [bench.items.slot("mug")]
    bench.store.failure = None
    bench.learn("mug", 1)
    assert bench.refresh() == ["mug"]
