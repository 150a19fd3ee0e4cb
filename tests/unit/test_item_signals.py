"""Increments become rows in the store, each counted once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from builders import NOW_MS, source

from stream.core.marks import Log, Mark
from stream.core.signals import Increment, ItemSignals, encode_increments, fold
from stream.errors import PublishUnavailable, StateUnavailable
from stream.fakes import MemoryMarkStore, MemoryPublisher, MemorySignalStore
from stream.healing.marks import Marks
from stream.ports import RawMessage, VersionedSignals
from stream.signals.item_signals import SignalFolder
from stream.telemetry.metrics import Telemetry


def _increment(offset: int, neighbour: str = "cup") -> Increment:
    return Increment("clicks/0", offset, NOW_MS, 1.0, [(neighbour, 1.0)])


def _message(place: int, *offsets: int, item_id: str = "mug") -> RawMessage:
    [(key, value)] = encode_increments({item_id: [_increment(offset) for offset in offsets]})
    return RawMessage(source(place, "item-signals"), key.encode(), value)


class Bench:
    def __init__(self, store: MemorySignalStore | None = None) -> None:
        self.store = store or MemorySignalStore()
        self.publisher = MemoryPublisher()
        self.folder = SignalFolder(self.store, self.publisher, Telemetry())

    def handle(self, *messages: RawMessage) -> None:
        asyncio.run(self.folder.handle(messages))

    def row(self, item_id: str = "mug") -> ItemSignals:
        return self.store.rows[item_id].signals


def _same(one: ItemSignals, other: ItemSignals) -> bool:
    return (
        one.applied == other.applied
        and one.popularity == pytest.approx(other.popularity)
        and one.neighbours == other.neighbours
        and one.forward == pytest.approx(other.forward)
    )


def test_increments_of_several_messages_and_items_are_folded() -> None:
    bench = Bench()
    bench.handle(_message(0, 1, 2), _message(1, 2, item_id="pot"), _message(2, 3))
    assert _same(bench.row(), fold(None, [_increment(1), _increment(2), _increment(3)]))
    assert _same(bench.row("pot"), fold(None, [_increment(2)]))


def test_a_batch_given_again_counts_nothing_twice_and_writes_nothing() -> None:
    bench = Bench()
    bench.handle(_message(0, 1, 2))
    before = bench.row()
    version = bench.store.rows["mug"].version
    bench.handle(_message(0, 1, 2))
    assert bench.row() is before
    assert bench.store.rows["mug"].version == version


def test_a_batch_that_overlaps_counts_what_is_new() -> None:
    bench = Bench()
    bench.handle(_message(0, 1, 2))
    bench.handle(_message(0, 1, 2), _message(1, 3))
    assert _same(bench.row(), fold(None, [_increment(offset) for offset in (1, 2, 3)]))


class Interfering(MemorySignalStore):
    """Another worker saves the same row just before, a number of times."""

    left = 2

    async def save(self, rows: Mapping[str, VersionedSignals]) -> dict[str, bool]:
        if self.left and "mug" in rows:
            self.left -= 1
            stored = self.rows.get("mug")
            other = fold(
                stored.signals if stored else None, [Increment("clicks/9", 10 - self.left, NOW_MS, 1.0)]
            )
            await super().save({"mug": VersionedSignals(other, stored.version if stored else 0)})
        return await super().save(rows)


def test_a_conflict_is_folded_again_on_what_the_other_saved() -> None:
    bench = Bench(Interfering())
    bench.handle(_message(0, 1), _message(1, 1, item_id="pot"))
    assert bench.row().applied == {"clicks/0": 1, "clicks/9": 10}
    assert bench.row("pot").applied == {"clicks/0": 1}
    assert bench.store.rows["pot"].version == 1  # written once


def test_conflicts_for_ever_make_the_batch_wait() -> None:
    store = Interfering()
    store.left = 1_000
    with pytest.raises(StateUnavailable, match="changed by others"):
        Bench(store).handle(_message(0, 1))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"mug", None),
        (None, b"[]"),
        (b"", b"[]"),
        (b"\xff", b'[{"source":"clicks/0","offset":1,"at_ms":1}]'),
        (b"mug", b"no json"),
        (b"mug", b'{"a":1}'),
        (b"mug", b'{"items":[{"item_id":"","increments":[]}]}'),
        (b"mug", b'{"items":[{"item_id":"mug","increments":[{"source":1}]}]}'),
        (b"mug", b'[{"source":1}]'),
        (b"mug", b'[{"source":"\xbe","offset":1,"at_ms":1}]'),
    ],
)
def test_what_is_no_increment_goes_to_the_dead_letters_and_the_rest_goes_on(
    key: bytes | None, value: bytes | None
) -> None:
    bench = Bench()
    bad = RawMessage(source(0, "item-signals"), key, value)
    bench.handle(bad, _message(1, 1))
    assert [(letter.message, letter.code) for letter in bench.publisher.dead_letters] == [
        (bad, "invalid_increment")
    ]
    assert bench.row().applied == {"clicks/0": 1}


def test_without_the_store_or_the_broker_the_batch_comes_again() -> None:
    bench = Bench()
    bench.store.failure = StateUnavailable("away")
    with pytest.raises(StateUnavailable):
        bench.handle(_message(0, 1))
    bench.store.failure = None
    bench.publisher.failure = PublishUnavailable("away")
    bad = RawMessage(source(0, "item-signals"), b"mug", None)
    with pytest.raises(PublishUnavailable):
        bench.handle(bad, _message(1, 1))
    bench.publisher.failure = None
    bench.handle(bad, _message(1, 1))
    assert _same(bench.row(), fold(None, [_increment(1)]))
    assert len(bench.publisher.dead_letters) == 1


def test_a_row_that_redis_forgot_before_its_mark_moved_is_noticed_though_a_redelivery_changed_nothing() -> (
    None
):
    bench = Bench()
    rows = bench.store.rows
    kept = MemoryMarkStore(lambda item: rows[item].version if item in rows else 0)
    marks = Marks(kept, Telemetry(), lambda: NOW_MS)
    asyncio.run(marks.begin({("item-signals", 0): Log(0, 9)}))
    bench.folder = SignalFolder(bench.store, bench.publisher, Telemetry(), marks)
    bench.handle(_message(0, 1))
    marks._saved.clear()
    bench.handle(_message(0, 1))
    rows.clear()
    with pytest.raises(StateUnavailable, match="forgotten"):
        asyncio.run(marks.advance([_message(0, 1)]))
    assert kept.stored == {("item-signals", 0): Mark(0)}


def test_a_row_is_not_begun_anew_on_a_redis_that_forgot() -> None:
    bench, kept = Bench(), MemoryMarkStore()
    marks = Marks(kept, Telemetry(), lambda: NOW_MS)
    asyncio.run(marks.begin({("item-signals", 0): Log(0, 9)}))
    bench.folder = SignalFolder(bench.store, bench.publisher, Telemetry(), marks)
    bench.handle(_message(0, 1))
    kept.stored.clear()
    bench.store.rows.clear()
    with pytest.raises(StateUnavailable, match="forgotten"):
        bench.handle(_message(1, 2))
    assert bench.store.rows == {}
