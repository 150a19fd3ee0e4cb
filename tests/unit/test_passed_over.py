"""What a consumer passed over is read again where no later message of its partition tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from builders import Partitions

from stream.healing.marks import LONGEST_GAP
from stream.healing.passed_over import LOOKS, TRIES, PassedOver, Stand
from stream.ports import Place
from stream.telemetry.metrics import Telemetry

PLACE: Place = ("clicks", 0)
OTHER: Place = ("clicks", 1)


def _passed_over(*offsets: int) -> tuple[PassedOver, Partitions, Telemetry, asyncio.Event]:
    log, telemetry, stale = Partitions(offsets), Telemetry(), asyncio.Event()
    return PassedOver(log, telemetry, stale), log, telemetry, stale


def _look(passed_over: PassedOver, stands: Mapping[Place, Stand], times: int = 1) -> list[dict[Place, int]]:
    return [asyncio.run(passed_over.look(stands)) for _ in range(times)]


@pytest.mark.parametrize("position", [5, 7], ids=["never fetched", "fetched and dropped"])
def test_a_partition_that_stands_still_before_a_message_is_read_again(
    position: int, caplog: pytest.LogCaptureFixture
) -> None:
    passed_over, _, telemetry, _ = _passed_over(6)
    stands = {PLACE: Stand(5, position, 7), OTHER: Stand(9, 9, 9)}
    assert _look(passed_over, stands, LOOKS) == [{}] * (LOOKS - 1) + [{PLACE: 5}]
    assert "clicks/0: passed over, and read again from 5 on" in caplog.text
    count = telemetry.registry.get_sample_value
    assert count("streamrec_rewinds_total", {"topic": "clicks", "cause": "skipped"}) == 1


def test_a_partition_that_moves_is_left_alone() -> None:
    passed_over, log, _, _ = _passed_over(*range(100))
    for step in range(5 * LOOKS):
        assert _look(passed_over, {PLACE: Stand(step, 50, 99), OTHER: Stand(3, step, 99)}) == [{}]
    assert log.asked == []


def test_a_message_in_hand_begins_the_looks_anew() -> None:
    passed_over, _, _, _ = _passed_over(6)
    stands = {PLACE: Stand(5, 7, 7)}
    _look(passed_over, stands, LOOKS - 1)
    assert _look(passed_over, {}) == [{}]
    assert _look(passed_over, stands, LOOKS)[-2:] == [{}, {PLACE: 5}]


def test_marks_of_transactions_are_asked_for_once_and_a_message_behind_them_is_found() -> None:
    passed_over, log, _, stale = _passed_over(8)
    assert _look(passed_over, {PLACE: Stand(5, 7, 7)}, 10 * LOOKS) == [{}] * 10 * LOOKS
    assert log.asked == [{PLACE: range(5, 7)}]
    assert _look(passed_over, {PLACE: Stand(5, 9, 9)}, LOOKS)[-1] == {PLACE: 5}
    assert not stale.is_set()


def test_a_long_way_of_nothing_is_asked_for_in_steps() -> None:
    passed_over, log, _, _ = _passed_over(LONGEST_GAP + 5)
    stands = {PLACE: Stand(0, 0, LONGEST_GAP + 9)}
    found = _look(passed_over, stands, 2 * LOOKS)
    assert [found[LOOKS - 1], found[-1]] == [{}, {PLACE: 0}]
    assert all(len(gap) <= LONGEST_GAP for asked in log.asked for gap in asked.values())


def test_where_reading_again_does_not_help_partitions_are_taken_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    passed_over, _, _, stale = _passed_over(6)
    tried = [found for found in _look(passed_over, {PLACE: Stand(5, 7, 7)}, TRIES * LOOKS) if found]
    assert tried == [{PLACE: 5}] * TRIES
    assert not stale.is_set()
    assert _look(passed_over, {PLACE: Stand(5, 7, 7)}, LOOKS) == [{}] * LOOKS
    assert stale.is_set()
    assert "clicks/0: still nothing from 5 on is read" in caplog.text


def test_what_helped_is_not_counted_against_a_later_message() -> None:
    passed_over, _, _, stale = _passed_over(*range(100))
    for mark in range(TRIES + 2):
        assert _look(passed_over, {PLACE: Stand(mark, mark + 1, mark + 1)}, LOOKS)[-1] == {PLACE: mark}
    assert not stale.is_set()
