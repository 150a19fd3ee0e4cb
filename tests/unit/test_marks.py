"""Where a partition is gone on with, whatever Redis and Kafka remember of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import pytest
from builders import NOW_MS, Partitions, raw_click
from hypothesis import given
from hypothesis import strategies as st

from stream.adapters.kafka_records import NotedHoles
from stream.core.marks import Beginning, Cause, Log, Mark, begin, gap, note
from stream.errors import StateUnavailable
from stream.fakes import MemoryMarkStore
from stream.healing.marks import LONGEST_GAP, Marks
from stream.ports import Place, RawMessage
from stream.telemetry.metrics import Telemetry

NEW = NOW_MS
PLACE: Place = ("clicks", 0)


@pytest.mark.parametrize(
    ("mark", "log", "expected"),
    [
        # Never read before: from the beginning of what there is.
        (None, Log(0, 9), Beginning(0, Mark(0))),
        (None, Log(4, 9), Beginning(4, Mark(4))),
        (Mark(4, 1), Log(4, 9), Beginning(4, Mark(4, 1))),
        # As it was left.
        (Mark(5), Log(0, 9, 5, note(0)), Beginning(5, Mark(5))),
        (Mark(5, 8), Log(0, 9, 5, note(8)), Beginning(5, Mark(5, 8))),
        # The worker died between saving and committing.
        (Mark(7), Log(0, 9, 5, note(0)), Beginning(5, Mark(7))),
        # Redis came back older, or empty.
        (Mark(2), Log(0, 9, 5, note(0)), Beginning(2, Mark(2), Cause.FORGOT)),
        (None, Log(0, 9, 5, note(0)), Beginning(0, Mark(0), Cause.FORGOT)),
        (None, Log(0, 9, 5, note(8)), Beginning(0, Mark(0, 8), Cause.FORGOT)),
        # It came back from before the topic was made anew.
        (Mark(5, 0), Log(0, 9, 5, note(8)), Beginning(0, Mark(0, 8), Cause.FORGOT)),
        # The topic has less than what was lost, or than what was never read.
        (Mark(2), Log(4, 9, 5, note(0)), Beginning(4, Mark(4), Cause.FORGOT, 2)),
        (None, Log(4, 9, 5, note(0)), Beginning(4, Mark(4), Cause.FORGOT, 4)),
        (Mark(5), Log(7, 9, 5, note(0)), Beginning(7, Mark(7), Cause.EXPIRED, 2)),
        (Mark(7), Log(7, 9, 5, note(0)), Beginning(7, Mark(7))),
        # A release without marks committed, or an operator moved the offset.
        (None, Log(0, 9, 5), Beginning(5, Mark(5), Cause.ADOPTED)),
        (Mark(2), Log(0, 9, 5), Beginning(5, Mark(5), Cause.ADOPTED)),
        (Mark(7), Log(0, 9, 5), Beginning(5, Mark(7))),
        (None, Log(7, 9, 5), Beginning(7, Mark(7), Cause.ADOPTED, 2)),
        (Mark(7, 8), Log(0, 9, 5, "words of another program"), Beginning(5, Mark(7, 8))),
        # The topic was deleted and made again, and Kafka dropped the group's offsets with it.
        (Mark(5), Log(0, 9), Beginning(0, Mark(0, NEW), Cause.RECREATED)),
        (Mark(50), Log(0, 9), Beginning(0, Mark(0, NEW), Cause.RECREATED)),
        # It did not drop them.
        (Mark(50), Log(0, 9, 50, note(0)), Beginning(0, Mark(0, NEW), Cause.RECREATED)),
        (None, Log(0, 9, 50), Beginning(0, Mark(0, NEW), Cause.RECREATED)),
        # The end of the log is gone: what was read of the rest is saved.
        (Mark(50), Log(0, 9, 5, note(0)), Beginning(5, Mark(5, NEW), Cause.RECREATED)),
    ],
)
def test_where_a_partition_is_gone_on_with(mark: Mark | None, log: Log, expected: Beginning) -> None:
    assert begin(mark, log, NEW) == expected


@given(
    st.none() | st.builds(Mark, st.integers(0, 30), st.sampled_from([0, 8])),
    st.integers(0, 20),
    st.integers(0, 10),
    st.none() | st.integers(0, 30),
    st.sampled_from(["", "else", note(0), note(8)]),
)
def test_no_message_is_left_out_and_what_is_gone_is_said(
    mark: Mark | None, first: int, size: int, committed: int | None, text: str
) -> None:
    log = Log(first, first + size, committed, text)
    at = begin(mark, log, NEW)
    assert first <= at.offset <= log.end
    assert at.mark.offset >= at.offset  # so a mark is never behind what will be committed
    if committed is not None:
        assert at.offset <= max(committed, first)
    again = begin(at.mark, log._replace(committed=at.offset, note=note(at.mark.life)), NEW + 1)
    assert (again.offset, again.mark, again.cause) == (at.offset, at.mark, None)


def _run(
    store: MemoryMarkStore, logs: Mapping[Place, Log], telemetry: Telemetry | None = None
) -> tuple[Marks, dict[Place, int]]:
    marks = Marks(store, telemetry or Telemetry(), lambda: NEW)
    return marks, asyncio.run(marks.begin(logs))


def test_what_is_begun_is_committed_even_where_it_begins_at_the_beginning() -> None:
    store = MemoryMarkStore()
    marks, offsets = _run(store, {PLACE: Log(0, 0), ("clicks", 1): Log(0, 5, 5, note(0))})
    assert offsets == {PLACE: 0, ("clicks", 1): 0}
    assert store.stored == {PLACE: Mark(0), ("clicks", 1): Mark(0)}
    assert marks.note(*PLACE) == "marks 0"
    assert marks.note("items", 0) == ""


def test_a_mark_follows_what_is_saved() -> None:
    store = MemoryMarkStore()
    marks, _ = _run(store, {PLACE: Log(0, 0)})
    asyncio.run(marks.advance([raw_click(offset=0), raw_click(offset=3), raw_click(offset=2)]))
    assert store.stored[PLACE] == Mark(4)
    asyncio.run(marks.advance([raw_click(offset=1)]))  # redelivered
    asyncio.run(marks.advance([raw_click(offset=9, partition=1)]))  # of nobody we know
    assert store.stored == {PLACE: Mark(4)}
    assert not marks.stale.is_set()


@pytest.mark.parametrize("left", [{}, {PLACE: Mark(2)}, {PLACE: Mark(9, -1)}])
def test_a_save_notices_that_redis_forgot_and_leaves_the_mark(left: dict[Place, Mark]) -> None:
    store = MemoryMarkStore()
    marks, _ = _run(store, {PLACE: Log(0, 0)})
    asyncio.run(marks.advance([raw_click(offset=3)]))
    store.stored = dict(left)
    for offset in (4, 5):
        with pytest.raises(StateUnavailable, match="forgotten"):
            asyncio.run(marks.advance([raw_click(offset=offset)]))
        assert marks.stale.is_set()
        assert store.stored == left


@pytest.mark.parametrize("left", [{}, {PLACE: Mark(2)}])
def test_that_redis_forgot_is_noticed_while_nothing_comes_in(left: dict[Place, Mark]) -> None:
    store = MemoryMarkStore()
    marks, _ = _run(store, {PLACE: Log(0, 0)})
    asyncio.run(marks.advance([raw_click(offset=3)]))
    asyncio.run(marks.check())
    assert not marks.stale.is_set()
    store.stored = dict(left)
    with pytest.raises(StateUnavailable, match="forgotten"):
        asyncio.run(marks.check())
    assert marks.stale.is_set()


def test_a_mark_of_the_new_owner_is_never_moved_back_by_the_one_before() -> None:
    store = MemoryMarkStore()
    zombie, _ = _run(store, {PLACE: Log(0, 10)})
    owner, _ = _run(store, {PLACE: Log(0, 10, 0, note(0))})
    asyncio.run(owner.advance([raw_click(offset=7)]))
    asyncio.run(zombie.advance([raw_click(offset=2)]))
    asyncio.run(zombie.check())
    assert store.stored == {PLACE: Mark(8)}
    asyncio.run(zombie.advance([raw_click(offset=8)]))  # both have saved all before
    asyncio.run(owner.advance([raw_click(offset=8)]))
    assert store.stored == {PLACE: Mark(9)}
    assert not zombie.stale.is_set()
    assert not owner.stale.is_set()


@given(start=st.integers(0, 9), offsets=st.lists(st.integers(0, 30), min_size=1, max_size=12))
def test_a_gap_reaches_from_the_first_to_the_last_offset_that_is_missing(
    start: int, offsets: list[int]
) -> None:
    missing = [offset for offset in range(start, max(offsets)) if offset not in offsets]
    assert gap(Mark(start), offsets) == (range(missing[0], missing[-1] + 1) if missing else range(0))


def _holding(log: Partitions, telemetry: Telemetry | None = None) -> Marks:
    marks = Marks(MemoryMarkStore(), telemetry or Telemetry(), lambda: NEW, log)
    asyncio.run(marks.begin({PLACE: Log(0, 0), ("clicks", 1): Log(0, 0)}))
    return marks


def _offsets(messages: Sequence[RawMessage]) -> list[tuple[int, int]]:
    return [message.source[1:3] for message in messages]


def test_what_the_consumer_passed_over_is_added_to_the_batch_in_its_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, telemetry = Partitions([0, 1, 3, 4]), Telemetry()
    marks = _holding(log, telemetry)
    batch = [raw_click(offset=4), raw_click(offset=0, partition=1), raw_click(offset=1)]
    whole = asyncio.run(marks.whole(batch))
    assert _offsets(whole) == [(0, 0), (0, 1), (0, 3), (0, 4), (1, 0)]
    assert log.asked == [{PLACE: range(4)}]
    assert "clicks/0: passed over, and read by itself: [0, 3]" in caplog.text
    count = telemetry.registry.get_sample_value
    assert count("streamrec_rewinds_total", {"topic": "clicks", "cause": "skipped"}) == 1
    asyncio.run(marks.advance(whole))
    assert marks.saved([PLACE]) == {PLACE: 5}


def test_nobody_is_asked_for_offsets_that_are_known_to_hold_no_message() -> None:
    log, holes = Partitions(range(20)), NotedHoles()
    marks = Marks(MemoryMarkStore(), Telemetry(), lambda: NEW, log, holes)
    asyncio.run(marks.begin({PLACE: Log(0, 0)}))
    for hole in (range(1), range(2, 5), range(6, 7), range(9, 12)):
        holes.note(PLACE, hole)
    batch = [raw_click(offset=offset) for offset in (1, 5)]
    assert asyncio.run(marks.whole(batch)) is batch
    assert log.asked == []
    batch = [raw_click(offset=8)]
    assert _offsets(asyncio.run(marks.whole(batch)))[-2:] == [(0, 7), (0, 8)]
    assert len(log.asked) == 1


def test_what_is_known_of_a_partition_is_forgotten_when_it_is_taken() -> None:
    log, holes = Partitions(range(9)), NotedHoles()
    holes.begin(PLACE)
    holes.note(PLACE, range(3))
    marks = Marks(MemoryMarkStore(), Telemetry(), lambda: NEW, log, holes)
    asyncio.run(marks.begin({PLACE: Log(0, 0)}))
    assert _offsets(asyncio.run(marks.whole([raw_click(offset=3)]))) == [(0, offset) for offset in range(4)]


def test_a_batch_that_goes_on_where_the_mark_is_or_before_it_is_whole() -> None:
    log = Partitions(range(9))
    marks = _holding(log)
    asyncio.run(marks.advance([raw_click(offset=offset) for offset in range(5)]))
    for offsets in ([5, 6], [3, 4, 5], [1]):
        batch = [raw_click(offset=offset) for offset in offsets]
        assert asyncio.run(marks.whole(batch)) is batch
    stranger = [raw_click(offset=9, partition=7)]  # of a partition that went
    assert asyncio.run(marks.whole(stranger)) is stranger
    assert log.asked == []


def test_offsets_that_hold_nothing_are_no_messages_that_are_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Partitions([2])
    marks = _holding(log)
    batch = [raw_click(offset=2)]
    assert asyncio.run(marks.whole(batch)) is batch
    assert len(log.asked) == 1
    assert "passed over" not in caplog.text


def test_a_gap_too_long_has_partitions_taken_anew() -> None:
    log = Partitions(range(9))
    marks = _holding(log)
    with pytest.raises(StateUnavailable):
        asyncio.run(marks.whole([raw_click(offset=LONGEST_GAP + 1)]))
    assert marks.stale.is_set()
    assert log.asked == []


def test_an_answer_that_was_lost_does_no_harm() -> None:
    store = MemoryMarkStore()
    marks, _ = _run(store, {PLACE: Log(0, 0)})
    store.failure = StateUnavailable("away")
    with pytest.raises(StateUnavailable):
        asyncio.run(marks.advance([raw_click(offset=0)]))
    store.failure = None
    store.stored[PLACE] = Mark(1)  # it had been set all the same
    asyncio.run(marks.advance([raw_click(offset=0)]))
    assert (store.stored[PLACE], marks.stale.is_set()) == (Mark(1), False)


def test_a_topic_that_is_made_anew_while_it_is_read_is_noticed() -> None:
    marks, _ = _run(MemoryMarkStore(), {PLACE: Log(0, 0)})
    asyncio.run(marks.advance([raw_click(offset=3)]))
    saved = marks.saved([PLACE, ("clicks", 9)])
    assert saved == {PLACE: 4}
    asyncio.run(marks.advance([raw_click(offset=8)]))
    marks.compare(saved, {PLACE: 4, ("clicks", 9): 0})
    assert not marks.stale.is_set()
    marks.compare(saved, {PLACE: 3})
    assert marks.stale.is_set()


def test_what_is_lost_and_what_is_read_again_is_told_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store, telemetry = MemoryMarkStore(), Telemetry()
    _run(store, {PLACE: Log(30, 90, 70, note(0))}, telemetry)
    assert "clicks/0: 30 messages from 0 on are in no state" in caplog.text
    assert "clicks/0: Redis has forgotten what was saved: 40 messages are folded again" in caplog.text
    count = telemetry.registry.get_sample_value
    assert count("streamrec_missing_messages_total", {"topic": "clicks"}) == 30
    assert count("streamrec_rewinds_total", {"topic": "clicks", "cause": "forgot"}) == 1


def test_a_mark_that_moves_while_partitions_are_taken_is_looked_at_again() -> None:
    class Moving(MemoryMarkStore):
        async def read(self, places: list[Place]) -> dict[Place, Mark]:  # type: ignore[override]
            found = await super().read(places)
            self.stored[PLACE] = Mark(6)  # the last batch of the owner before
            return found

    store = Moving()
    store.stored[PLACE] = Mark(2)
    _, offsets = _run(store, {PLACE: Log(0, 9, 5)})
    assert (offsets, store.stored[PLACE]) == ({}, Mark(6))


def test_a_mark_that_keeps_moving_is_given_up_for_now() -> None:
    class Restless(MemoryMarkStore):
        async def swap(
            self, changes: Mapping[Place, tuple[Mark | None, Mark]], saved: Mapping[str, int] = {}
        ) -> dict[Place, Mark | None]:
            self.stored = {place: Mark(self.stored[place].offset + 1) for place in self.stored}
            return await super().swap(changes, saved)

    store = Restless()
    store.stored[PLACE] = Mark(1)
    with pytest.raises(StateUnavailable, match="5 times"):
        _run(store, {PLACE: Log(0, 99, 50)})
    store.stored[PLACE] = Mark(50)
    marks, _ = _run(store, {PLACE: Log(0, 99, 50)})
    with pytest.raises(StateUnavailable, match="5 times"):
        asyncio.run(marks.advance([raw_click(offset=90)]))
    assert not marks.stale.is_set()
