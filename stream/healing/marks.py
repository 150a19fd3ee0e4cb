"""The use case: know how far partitions are saved, notice that Redis forgot, and go back. Ports only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from stream.core import marks
from stream.core.marks import Beginning, Cause, Log, Mark
from stream.errors import StateUnavailable
from stream.ports import Holes, MarkStore, Place, RawMessage
from stream.telemetry.metrics import Telemetry

log = logging.getLogger(__name__)

SWAP_ROUNDS = 5
LONGEST_GAP = 10_000
"""Of offsets that are read again beside a batch; a longer one has partitions taken anew."""

Reread = Callable[[Mapping[Place, range]], Awaitable[list[RawMessage]]]
"""Gives what lies in partitions at some offsets, those that hold nothing left out."""


class Marks:
    """The marks of the partitions that this process owns in one consumer group.

    `stale` is set for good once Redis has less than this process saved, or a topic was made anew:
    partitions have to be taken anew, by `begin`.

    Args:
        reread: what `whole` asks for messages that were passed over; None where there is nobody to ask.
        holes: tells which offsets are known to hold no message.
    """

    def __init__(
        self,
        store: MarkStore,
        telemetry: Telemetry,
        now_ms: Callable[[], int],
        reread: Reread | None = None,
        holes: Holes | None = None,
    ) -> None:
        self._store = store
        self._holes = holes
        self._reread = reread
        self._telemetry = telemetry
        self._now_ms = now_ms
        self._held: dict[Place, Mark] = {}
        self._saved: dict[str, int] = {}
        self.stale = asyncio.Event()

    def life(self, topic: str, partition: int) -> int:
        """Which topic of this name a partition belongs to; see `Mark`."""
        held = self._held.get((topic, partition))
        return held.life if held else 0

    def note(self, topic: str, partition: int) -> str:
        """What goes with the committed offset of a partition; nothing where no marks are kept."""
        held = self._held.get((topic, partition))
        return marks.note(held.life) if held else ""

    async def begin(self, logs: Mapping[Place, Log]) -> dict[Place, int]:
        """Take partitions, all that this process now owns, and say from which offsets to read them.

        Returns:
            Offsets to be committed before anything is read: of partitions to go back in, or to begin.

        Raises:
            StateUnavailable: Redis did not answer; nothing may be read before this succeeded.
        """
        self._held = {place: mark for place, mark in self._held.items() if place in logs}
        found: dict[Place, Mark | None] = dict.fromkeys(logs)
        found |= await self._store.read(list(logs))
        begun: dict[Place, Beginning] = {}
        for _ in range(SWAP_ROUNDS):
            open_ones = [place for place in logs if place not in begun]
            wanted = {place: marks.begin(found[place], logs[place], self._now_ms()) for place in open_ones}
            changes = {
                place: (found[place], at.mark) for place, at in wanted.items() if at.mark != found[place]
            }
            found |= await self._store.swap(changes)
            begun |= {place: at for place, at in wanted.items() if found[place] == at.mark}
            if len(begun) == len(logs):
                break
        else:
            raise StateUnavailable(f"marks were moved by another worker {SWAP_ROUNDS} times in a row")
        self._held = {place: at.mark for place, at in begun.items()}
        if self._holes:
            for place in begun:
                self._holes.begin(place)
        for place, at in begun.items():
            self._tell(place, logs[place], at)
        return {place: at.offset for place, at in begun.items() if at.offset != logs[place].committed}

    def rely_on(self, saved: Mapping[str, int]) -> None:
        """Have the marks move only where what was saved of shoppers or items, by version, is still there.

        The marks themselves cannot tell: a Redis that forgot a save, and nothing that was marked before it,
        has the marks that are expected.
        """
        for owner, version in saved.items():
            self._saved[owner] = max(version, self._saved.get(owner, 0))

    async def advance(self, messages: Sequence[RawMessage]) -> None:
        """Move the marks behind messages whose effects are all saved.

        A mark that is further already is another worker's, who owns the partition now: it stays. One that is
        missing, or behind what this process knew to be saved, stays too, and sets `stale`.

        Raises:
            StateUnavailable: Redis did not answer, or forgot; nothing may be acknowledged.
        """
        ends: dict[Place, int] = {}
        for message in messages:
            place = message.source.topic, message.source.partition
            ends[place] = max(ends.get(place, 0), message.source.offset + 1)
        await self._move({place: end for place, end in ends.items() if place in self._held})
        self._refuse_if_stale()
        self._saved.clear()

    async def whole(self, messages: Sequence[RawMessage]) -> Sequence[RawMessage]:
        """Add to a batch what the consumer passed over: messages between the marks and those of the batch.

        So a mark never moves past a message that nobody was given.

        Raises:
            Unavailable: Kafka did not give them.
            StateUnavailable: the gap is too long; `stale` is set.
        """
        offsets: dict[Place, list[int]] = {}
        for message in messages:
            offsets.setdefault((message.source.topic, message.source.partition), []).append(
                message.source.offset
            )
        gaps = {
            place: gap
            for place, some in offsets.items()
            if (held := self._held.get(place))
            and (gap := marks.gap(held, some, self._known_holes(place, held)))
        }
        if not gaps or self._reread is None:
            return messages
        for place, gap in gaps.items():
            if len(gap) > LONGEST_GAP:
                log.error("%s/%d: %d offsets from %d on were passed over", *place, len(gap), gap.start)
                self.stale.set()
        self._refuse_if_stale()
        given = {message.source[:3] for message in messages}
        found = [one for one in await self._reread(gaps) if one.source[:3] not in given]
        for place in {one.source[:2] for one in found}:
            again = [one.source.offset for one in found if one.source[:2] == place]
            log.warning("%s/%d: passed over, and read by itself: %s", *place, again)
            self._telemetry.rewinds.labels(place[0], Cause.SKIPPED).inc()
        return sorted([*found, *messages], key=lambda one: one.source[:3]) if found else messages

    def _known_holes(self, place: Place, mark: Mark) -> Sequence[range]:
        return self._holes.behind(place, mark.offset) if self._holes else ()

    async def check(self) -> None:
        """Make sure that what was read from Redis before this call was all that had been saved there.

        What was learnt from a Redis that forgot must be neither saved nor published: it would stand before
        what is folded again.

        Raises:
            StateUnavailable: Redis did not answer, or forgot.
        """
        before = dict(self._held)
        found = await self._store.read(list(before))
        for place, mark in before.items():
            # Only what is still owned: the mark of a partition that went may be anybody's.
            if place in self._held and _is_behind(found.get(place), mark):
                self._forget(place)
        self._refuse_if_stale()

    def saved(self, places: Iterable[Place]) -> dict[Place, int]:
        """How far partitions are saved now, those without a mark left out."""
        return {place: self._held[place].offset for place in places if place in self._held}

    def compare(self, saved: Mapping[Place, int], ends: Mapping[Place, int]) -> None:
        """Notice that the offsets of a partition began anew while it was read.

        Args:
            saved: how far partitions were saved, asked for before `ends`.
            ends: the offsets that their next messages will have.
        """
        for place, offset in saved.items():
            if ends.get(place, offset) < offset:
                if not self.stale.is_set():
                    log.error("%s/%d: its offsets began anew: it was deleted and made again", *place)
                self.stale.set()

    async def _move(self, ends: Mapping[Place, int]) -> None:
        before = {place: self._held[place] for place in ends}
        for _ in range(SWAP_ROUNDS):
            changes = {
                place: (mark, mark._replace(offset=ends[place]))
                for place, mark in before.items()
                if mark.offset < ends[place]
            }
            if not changes:
                return
            found = await self._store.swap(changes, self._saved)
            before = {}
            for place, (known, wanted) in changes.items():
                mark = found[place]
                if mark is None or _is_behind(mark, known):
                    self._forget(place)
                elif mark.life == wanted.life:
                    self._held[place] = before[place] = mark
        raise StateUnavailable(f"marks were moved by another worker {SWAP_ROUNDS} times in a row")

    def _refuse_if_stale(self) -> None:
        if self.stale.is_set():
            raise StateUnavailable("Redis has forgotten what was saved: partitions have to be taken anew")

    def _forget(self, place: Place) -> None:
        if not self.stale.is_set():
            log.error("Redis has forgotten what was saved of %s/%d: it came back older, or empty", *place)
        self.stale.set()

    def _tell(self, place: Place, at_broker: Log, at: Beginning) -> None:
        topic, partition = place
        if at.missing:
            log.error(
                "%s/%d: %d messages from %d on are in no state, and no longer in the topic",
                *(topic, partition, at.missing, at_broker.first - at.missing),
            )
            self._telemetry.missing_messages.labels(topic).inc(at.missing)
        if at.cause is None:
            return
        self._telemetry.rewinds.labels(topic, at.cause).inc()
        if at.cause is Cause.FORGOT:
            again = (at_broker.committed or 0) - at.offset
            log.warning(
                "%s/%d: Redis has forgotten what was saved: %d messages are folded again, from %d on",
                *(topic, partition, again, at.offset),
            )
        elif at.cause is Cause.RECREATED:
            log.warning(
                "%s/%d: its offsets began anew (it was deleted and made again, or cut, or the group was "
                "deleted): read from %d on",
                *(topic, partition, at.offset),
            )
        elif at.cause is Cause.ADOPTED:
            log.info("%s/%d: marks are kept from the group's offset %d on", topic, partition, at.offset)


def _is_behind(found: Mark | None, known: Mark) -> bool:
    """Whether a stored mark is less than what was stored before."""
    return found is None or (found.life, found.offset) < (known.life, known.offset)
