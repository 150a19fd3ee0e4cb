"""The use case: notice messages that a consumer passed over, or never fetches, where no later one tells.

`Marks.whole` finds what lies before a later message of its partition. Where none comes, only the partition's
end tells that something was left behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import NamedTuple

from stream.core.marks import Cause
from stream.healing.marks import LONGEST_GAP, Reread
from stream.ports import Place
from stream.telemetry.metrics import Telemetry

log = logging.getLogger(__name__)

LOOKS = 3
"""How often in a row a partition has to stand still at the same offsets before it is judged."""
TRIES = 3
"""How often a partition is gone back in that stands still at the same mark again."""


class Stand(NamedTuple):
    """Offsets of a partition: all before `mark` is saved, `position` is read next, `end` published next."""

    mark: int
    position: int
    end: int


class PassedOver:
    """Looks at partitions now and then, while nothing of them is in anybody's hands.

    Args:
        reread: tells whether there are messages behind a mark; the marks of transactions are none.
        stale: is set where going back does not help: partitions have to be taken anew.
    """

    def __init__(self, reread: Reread, telemetry: Telemetry, stale: asyncio.Event) -> None:
        self._reread = reread
        self._stale = stale
        self._telemetry = telemetry
        self._looks: dict[Place, tuple[int, int, int]] = {}
        self._empty: dict[Place, range] = {}
        self._tries: dict[Place, tuple[int, int]] = {}

    async def look(self, stands: Mapping[Place, Stand]) -> dict[Place, int]:
        """Compare with the last looks; to be called with nothing wherever something is in hand.

        Returns:
            Offsets to read partitions from again.

        Raises:
            Unavailable: Kafka did not give what lies behind the marks.
        """
        looks = {}
        for place, at in stands.items():
            if at.end > self._known_empty(place, at).stop:
                *before, count = self._looks.get(place, (-1, -1, 0))
                looks[place] = at.mark, at.position, count + 1 if before == [at.mark, at.position] else 1
        self._looks = looks
        still = [place for place, (*_, count) in looks.items() if count >= LOOKS]
        if not still:
            return {}
        asked = {place: self._next_to_ask(place, stands[place]) for place in still}
        left = {message.source[:2] for message in await self._reread(asked)}
        for place, offsets in asked.items():
            if place not in left:
                self._empty[place] = range(stands[place].mark, offsets.stop)
        found = {}
        for place in still:
            del self._looks[place]  # it has as long again to move
            if place in left and self._is_worth_a_try(place, stands[place]):
                found[place] = stands[place].mark
        return found

    def _known_empty(self, place: Place, at: Stand) -> range:
        """The offsets behind a mark that are known to hold no message."""
        known = self._empty.get(place, range(0))
        return known if known.start == at.mark else range(at.mark, at.mark)

    def _next_to_ask(self, place: Place, at: Stand) -> range:
        start = self._known_empty(place, at).stop
        return range(start, min(at.end, start + LONGEST_GAP))

    def _is_worth_a_try(self, place: Place, at: Stand) -> bool:
        mark, tries = self._tries.get(place, (at.mark, 0))
        tries = tries + 1 if mark == at.mark else 1
        self._tries[place] = at.mark, tries
        if tries > TRIES:
            log.error("%s/%d: still nothing from %d on is read", *place, at.mark)
            self._stale.set()
            return False
        self._telemetry.rewinds.labels(place[0], Cause.SKIPPED).inc()
        log.warning(
            "%s/%d: passed over, and read again from %d on; next to be read was %d, to be published %d",
            *(*place, at.mark, at.position, at.end),
        )
        return True
