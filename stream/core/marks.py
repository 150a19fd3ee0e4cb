"""How far what was read of a partition has been saved, and where to go on reading.

Redis keeps a mark for each partition: the offset before which every effect is saved. It is written after
the effects, so whatever Redis comes back with after a loss, its marks are no further than its states. Kafka
keeps the group's committed offset, and with it a note of who keeps marks. Comparing the two tells that
Redis forgot, and from where on the log has to be read again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import NamedTuple

_NOTE = "marks"


class Mark(NamedTuple):
    """Every effect of the messages before `offset` is saved.

    `life` tells apart topics of one name, of which the second one's offsets began anew: 0 is the first one,
    else the time in epoch milliseconds when another was noticed.
    """

    offset: int
    life: int = 0


class Log(NamedTuple):
    """What Kafka knows of a partition: its first offset, the next one, and the group's with its note."""

    first: int
    end: int
    committed: int | None = None
    note: str = ""


class Cause(StrEnum):
    """Why a partition is not simply gone on with."""

    FORGOT = "forgot"
    """Redis has less than it once had."""
    RECREATED = "recreated"
    """The partition's offsets began anew."""
    ADOPTED = "adopted"
    """A release that kept no marks committed, or an operator moved the group's offset."""
    SKIPPED = "skipped"
    """The consumer passed over messages, as it may while partitions change hands."""
    EXPIRED = "expired"
    """The topic has no longer what would have to be read next."""


class Beginning(NamedTuple):
    """Where to begin reading, the mark to go on from, and how many messages nobody can read any more."""

    offset: int
    mark: Mark
    cause: Cause | None = None
    missing: int = 0


def begin(mark: Mark | None, log: Log, new_life: int) -> Beginning:
    """Compare a partition's mark with its log.

    Args:
        mark: what Redis has; None where it has none.
        new_life: the life to go on with where the offsets began anew.
    """
    beyond = max(log.committed or 0, mark.offset if mark else 0) > log.end
    if log.committed is None or beyond:
        return _without_an_offset(mark, log, new_life, beyond)
    kept = _life(log.note)
    if kept is None:
        known = (
            mark if mark and mark.offset >= log.committed else Mark(log.committed, mark.life if mark else 0)
        )
        return _within(log, log.committed, known, None if known == mark else Cause.ADOPTED)
    if mark is None or mark.life < kept:
        return _within(log, 0, Mark(0, kept), Cause.FORGOT)
    if mark.offset < log.committed:
        return _within(log, mark.offset, mark, Cause.FORGOT)
    return _within(log, log.committed, mark, None)


def gap(mark: Mark, offsets: Collection[int], holes: Iterable[range] = ()) -> range:
    """From the first to the last offset between a mark and messages of its partition that none of them has.

    Empty where there is none. That a message is missing does not follow from a gap: the marks of
    transactions take offsets too, and what is older than the topic's retention is gone.

    Args:
        offsets: of the messages; at least one.
        holes: offsets that are known to hold no message.
    """
    expected, absent, last = mark.offset, list[range](), max(offsets)
    given = (range(offset, offset + 1) for offset in offsets)
    for taken in sorted([*given, *(hole for hole in holes if hole.start < last)], key=_bounds):
        if taken.start > expected:
            absent.append(range(expected, taken.start))
        expected = max(expected, taken.stop)
    return range(absent[0].start, absent[-1].stop) if absent else range(0)


def _bounds(offsets: range) -> tuple[int, int]:
    return offsets.start, offsets.stop


def note(life: int) -> str:
    """What goes with a committed offset, so that a mark that is missing later is known to be lost."""
    return f"{_NOTE} {life}"


def _life(text: str) -> int | None:
    """Read a note; None where no marks were kept."""
    name, _, life = text.partition(" ")
    return int(life) if name == _NOTE and life.isdigit() else None


def _without_an_offset(mark: Mark | None, log: Log, new_life: int, beyond: bool) -> Beginning:
    """Begin a partition that the group never read, or whose offsets are not those that were read."""
    if not beyond and (mark is None or mark.offset == log.first):
        return Beginning(log.first, Mark(log.first, mark.life if mark else 0))
    # A log that was cut short still has what the group read of it; one that is new begins at its beginning.
    cut = log.committed is not None and log.committed <= log.end
    start = max(log.first, log.committed or 0) if cut else log.first
    return Beginning(start, Mark(start, new_life), Cause.RECREATED)


def _within(log: Log, start: int, mark: Mark, cause: Cause | None) -> Beginning:
    """Begin no earlier than the log does."""
    missing = max(0, log.first - mark.offset)
    start = max(start, log.first)
    known = mark._replace(offset=max(mark.offset, log.first))
    return Beginning(start, known, cause or (Cause.EXPIRED if missing else None), missing)
