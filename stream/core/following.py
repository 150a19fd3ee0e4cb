"""What followed a list: the next new item that its shopper touched within the session.

Answers are given once the session has ended, by event time and per partition: the same events give the same
answers however they are read. A session ends with a pause, or where another `session_id` is named; for a list
it ends after `LONGEST_GAPS` pauses at the latest, so that no visit holds up the lists after it for ever.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from stream.core.policy import DAY_MS

LONGEST_GAPS = 2
TOUCHES_KEPT = 200
"""Newest touches of one shopper."""
SHOPPERS_KEPT = 100_000
"""Shoppers of one partition; those whose newest touch is oldest are forgotten first."""
KEPT_MS = 7 * DAY_MS
"""Where no list waits, a shopper who touched nothing for so long is forgotten."""
AFTER_ALL = 1 << 62
"""An offset that comes after all others."""


class Touch(NamedTuple):
    """A shopper touched an item; ordered by time, then as the stream was. `session` is "" without a name."""

    at_ms: int
    offset: int
    line: int
    item_id: str
    session: str


class Followed(NamedTuple):
    """What came of a list: the item that was touched next, None where the session brought no new one."""

    item_id: str | None


class Following:
    """The recent touches of every shopper.

    Args:
        gap_ms: a pause this long ends a session.
    """

    def __init__(self, gap_ms: int) -> None:
        self._gap_ms = gap_ms
        self._shoppers: dict[int, OrderedDict[str, list[Touch]]] = {}
        self._clock: dict[int, int] = {}

    def clock_ms(self, partition: int) -> int:
        """The latest event time of a partition, 0 before its first event."""
        return self._clock.get(partition, 0)

    def longest_ms(self) -> int:
        """How long after a list its session ends at the latest."""
        return LONGEST_GAPS * self._gap_ms

    def touched(
        self, partition: int, user_id: str, at_ms: int, offset: int, items: tuple[str, ...], session: str = ""
    ) -> None:
        """Note that a shopper touched items; without any, only time goes on. Again does no harm."""
        self._clock[partition] = max(self.clock_ms(partition), at_ms)
        if not items:
            return
        shoppers = self._shoppers.setdefault(partition, OrderedDict())
        touches = shoppers.setdefault(user_id, [])
        for line, item_id in enumerate(items):
            touch = Touch(at_ms, offset, line, item_id, session)
            place = bisect_right(touches, touch)
            if not place or touches[place - 1] != touch:
                insort(touches, touch)
        del touches[:-TOUCHES_KEPT]
        shoppers.move_to_end(user_id)
        while len(shoppers) > SHOPPERS_KEPT:
            shoppers.popitem(last=False)

    def after(self, partition: int, user_id: str, at_ms: int, offset: int) -> Followed | None:
        """Say what followed a list that answered the event at a time and an offset; None: not known yet.

        Args:
            offset: of the event in `clicks`; `AFTER_ALL` for an event of another topic.
        """
        clock_ms, end_ms = self.clock_ms(partition), at_ms + self.longest_ms()
        if clock_ms < at_ms + self._gap_ms:
            return None
        shoppers = self._shoppers.get(partition)
        touches = shoppers.get(user_id, []) if shoppers else []
        place = bisect_right(touches, (at_ms, offset, AFTER_ALL, "", ""))
        seen = {touch.item_id for touch in self._before(touches, place, at_ms)}
        last_ms, session = at_ms, touches[place - 1].session if seen else ""
        found: str | None = None
        for touch in touches[place:]:
            if touch.at_ms > end_ms or self._parts(last_ms, session, touch.at_ms, touch.session):
                break
            if found is None and touch.item_id not in seen:
                found = touch.item_id
            last_ms, session = touch.at_ms, touch.session or session
        if clock_ms < min(last_ms + self._gap_ms, end_ms):
            return None
        return Followed(found)

    def forget(self, partition: int, before_ms: int) -> None:
        """Forget shoppers of a partition whose newest touch is older than a time."""
        shoppers = self._shoppers.get(partition)
        while shoppers and next(iter(shoppers.values()))[-1].at_ms < before_ms:
            shoppers.popitem(last=False)

    def forget_idle(self, waits: Callable[[int], bool]) -> None:
        """Forget shoppers of long ago in partitions where no list waits for what followed it."""
        for partition, clock_ms in self._clock.items():
            if not waits(partition):
                self.forget(partition, clock_ms - KEPT_MS)

    def state(self) -> list[tuple[int, int, list[tuple[str, list[Touch]]]]]:
        """All that is known: partition, clock, shoppers with their touches."""
        return [
            (partition, clock, [(user, list(of)) for user, of in self._shoppers.get(partition, {}).items()])
            for partition, clock in self._clock.items()
        ]

    def restore(self, state: list[tuple[int, int, list[tuple[str, list[Touch]]]]]) -> None:
        """Go on from what `state` gave."""
        self._clock = {partition: clock for partition, clock, _ in state}
        self._shoppers = {partition: OrderedDict(shoppers) for partition, _, shoppers in state}

    def _before(self, touches: list[Touch], place: int, at_ms: int) -> list[Touch]:
        """The touches of the session up to a place that is reached at a time."""
        first = place
        while first:
            touch = touches[first - 1]
            later_ms, session = (
                (touches[first].at_ms, touches[first].session) if first < place else (at_ms, "")
            )
            if self._parts(touch.at_ms, touch.session, later_ms, session):
                break
            first -= 1
        return touches[first:place]

    def _parts(self, earlier_ms: int, earlier: str, later_ms: int, later: str) -> bool:
        """Whether a session ends between two events."""
        return later_ms - earlier_ms > self._gap_ms or bool(earlier and later and earlier != later)
