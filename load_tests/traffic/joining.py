"""Which list answers which event.

A list carries its trigger: the newest event it takes into account. It answers that event, and every earlier
one of the shopper in the same partition. An event of the shopper's other topic is answered by the first list
whose trigger was appended later, unless a later list names the event itself: then the worker had not seen it
before. Where it was never named, which of several lists first took it into account cannot be told; such
answers are counted apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

How = Literal["named", "coalesced", "coalesced_across_topics"]


class Trigger(msgspec.Struct, frozen=True):
    """What of a list's trigger is needed here."""

    event_id: str
    topic: str
    partition: int
    offset: int


class ListHead(msgspec.Struct, frozen=True):
    """What of a list is needed here; its items are passed over while it is read."""

    user_id: str
    sequence: int
    trigger: Trigger
    degraded: list[str]
    reordered: bool = False


class Place(NamedTuple):
    """Where the broker put an event, and when by the clock of its timestamps."""

    topic: str
    partition: int
    offset: int
    appended_ms: int


class Answer(NamedTuple):
    """An event and its list. Seconds are of one clock, `freshness_ms` is by the brokers' timestamps."""

    intended_s: float
    read_s: float
    freshness_ms: int
    how: How


class _Event:
    __slots__ = ("event_id", "intended_s", "place", "seen", "tentative", "user")

    def __init__(self, event_id: str, user: str, intended_s: float, seen: int) -> None:
        self.event_id = event_id
        self.user = user
        self.intended_s = intended_s
        self.place: Place | None = None
        self.seen = seen
        """Lists of the shopper that were looked at for it."""
        self.tentative: _Listed | None = None


class _Listed(NamedTuple):
    head: ListHead
    appended_ms: int
    read_s: float
    trigger: _Event | None


class _Shopper:
    """One who has events that wait."""

    __slots__ = ("events", "first", "lists")

    def __init__(self) -> None:
        self.events: dict[str, _Event] = {}
        self.lists: deque[_Listed] = deque()
        self.first = 0
        """How many lists came before the first of `lists`."""


class Joining:
    """Match events with lists as both become known, in any order.

    Args:
        answered: is told of each answer, once.

    `lists` counts lists of these shoppers, `repeated` those that a reader drops, since their sequence is not
    higher than the last, `degraded` those that say so.
    """

    def __init__(self, answered: Callable[[Answer], None]) -> None:
        self._answered = answered
        self._shoppers: dict[str, _Shopper] = {}
        self._sequences: dict[str, int] = {}
        self._events: dict[str, _Event] = {}
        self._tentative = 0
        self.lists = 0
        self.repeated = 0
        self.degraded = 0

    @property
    def waiting(self) -> int:
        """Events that no list has answered yet."""
        return len(self._events) - self._tentative

    def sent(self, event_id: str, user: str, intended_s: float) -> None:
        """Note an event that is on its way to the broker."""
        self._sequences.setdefault(user, -1)
        shopper = self._shoppers.setdefault(user, _Shopper())
        event = _Event(event_id, user, intended_s, shopper.first + len(shopper.lists))
        shopper.events[event_id] = self._events[event_id] = event

    def acknowledged(self, event_id: str, place: Place) -> None:
        """Note where an event lies."""
        event = self._events.get(event_id)
        if event is not None:
            event.place = place
            self._settle(event.user, self._shoppers[event.user])

    def lost(self, event_id: str) -> None:
        """Note that the broker did not take an event."""
        event = self._events.pop(event_id)
        shopper = self._shoppers[event.user]
        del shopper.events[event_id]
        self._settle(event.user, shopper)

    def listed(self, head: ListHead, appended_ms: int, read_s: float) -> bool:
        """Note a list; returns whether it is one of these shoppers'."""
        before = self._sequences.get(head.user_id)
        if before is None or head.reordered:
            return False
        self.lists += 1
        self.degraded += bool(head.degraded)
        if head.sequence <= before:
            self.repeated += 1
            return True
        self._sequences[head.user_id] = head.sequence
        if shopper := self._shoppers.get(head.user_id):
            trigger = self._events.get(head.trigger.event_id)
            shopper.lists.append(_Listed(head, appended_ms, read_s, trigger))
            self._settle(head.user_id, shopper)
        return True

    def conclude(self) -> list[float]:
        """Take what is likely for what is; return when those were meant to be sent that nothing answers."""
        unanswered = []
        for event in list(self._events.values()):
            if event.tentative is not None:
                self._answer(event, event.tentative, "coalesced_across_topics")
            else:
                unanswered.append(event.intended_s)
        return unanswered

    def _settle(self, user: str, shopper: _Shopper) -> None:
        """Look at what became known, and forget what no event waits for any more."""
        end = shopper.first + len(shopper.lists)
        for event in list(shopper.events.values()):
            while event.place is not None and event.seen < end:
                how = self._judge(event, event.place, shopper.lists[event.seen - shopper.first])
                if how == "unknown":
                    break
                event.seen += 1
                if how == "answered":
                    break
        if not shopper.events:
            del self._shoppers[user]
            return
        needed = min(event.seen for event in shopper.events.values())
        while shopper.first < needed:
            shopper.lists.popleft()
            shopper.first += 1

    def _judge(self, event: _Event, place: Place, listed: _Listed) -> Literal["answered", "not", "unknown"]:
        trigger = listed.head.trigger
        if trigger.event_id == event.event_id:
            self._answer(event, listed, "named")
            return "answered"
        if (trigger.topic, trigger.partition) == (place.topic, place.partition):
            if trigger.offset < place.offset:
                return "not"
            if event.tentative is not None:
                self._answer(event, event.tentative, "coalesced_across_topics")
            else:
                self._answer(event, listed, "coalesced")
            return "answered"
        if listed.trigger is None or event.tentative is not None:
            return "not"
        if listed.trigger.place is None:
            return "unknown"
        if listed.trigger.place.appended_ms >= place.appended_ms:
            event.tentative = listed
            self._tentative += 1
        return "not"

    def _answer(self, event: _Event, listed: _Listed, how: How) -> None:
        assert event.place is not None
        self._tentative -= event.tentative is not None
        del self._events[event.event_id]
        del self._shoppers[event.user].events[event.event_id]
        freshness_ms = listed.appended_ms - event.place.appended_ms
        self._answered(Answer(event.intended_s, listed.read_s, freshness_ms, how))
