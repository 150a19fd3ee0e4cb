"""Which list answers which event, and how long that took by the broker's clock."""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

import numpy as np

from stream.adapters.kafka_sender import Sent
from stream.core.events import ClickMessage, RecommendationList, SearchMessage

LATEST_KEPT = 100_000
"""Triggers and freshness remembered, so that a long demo's memory stays bounded."""

Place = tuple[str, int, int]
"""Topic, partition, offset."""


class Refresh(NamedTuple):
    """A list that changed: the event it answers, the list before, the list after.

    `freshness_ms` runs from the broker's append of the event to its append of the list.
    """

    event: ClickMessage | SearchMessage
    before: RecommendationList | None
    after: RecommendationList
    freshness_ms: int


class _Waiting(NamedTuple):
    made: RecommendationList
    before: RecommendationList | None
    append_ms: int


class Measurements:
    """Counts events and lists and matches them; either of a pair may be told first."""

    def __init__(self) -> None:
        self.events = 0
        self.lists = 0
        self.dead_letters = 0
        self.degraded: Counter[str] = Counter()
        self.last_lists: dict[str, RecommendationList] = {}
        self._users: set[str] = set()
        self._freshness_ms: deque[int] = deque(maxlen=LATEST_KEPT)
        self._events: dict[Place, tuple[ClickMessage | SearchMessage, int]] = {}
        self._waiting: dict[Place, _Waiting] = {}
        self._unanswered: dict[str, dict[Place, int]] = {}

    @property
    def users(self) -> int:
        """Shoppers who did anything."""
        return len(self._users)

    @property
    def unanswered(self) -> int:
        """Events that no list of their shopper has answered, nor one triggered by a later event."""
        return sum(len(events) for events in self._unanswered.values())

    def event(self, message: ClickMessage | SearchMessage, sent: Sent) -> Refresh | None:
        """Note an event that the broker has; returns the refresh where its list came first."""
        place = (sent.topic, sent.partition, sent.offset)
        self.events += 1
        self._users.add(message.user_id)
        self._events[place] = (message, sent.timestamp_ms)
        if len(self._events) > LATEST_KEPT:
            del self._events[next(iter(self._events))]
        self._unanswered.setdefault(message.user_id, {})[place] = sent.timestamp_ms
        waiting = self._waiting.pop(place, None)
        return None if waiting is None else self._refresh(place, waiting)

    def list(self, made: RecommendationList, append_ms: int) -> Refresh | None:
        """Note a published list; returns the refresh where its event is known already.

        Not counted: a shop's own results in another order, which come beside the list that answers the same
        search; and a list with the trigger of the one before, which corrects it where an item was withdrawn.
        """
        if made.reordered:
            return None
        before = self.last_lists.get(made.user_id)
        self.last_lists[made.user_id] = made
        if before is not None and before.trigger == made.trigger:
            return None
        self.lists += 1
        self.degraded.update(made.degraded)
        place = (made.trigger.topic, made.trigger.partition, made.trigger.offset)
        waiting = _Waiting(made, before, append_ms)
        if place in self._events:
            return self._refresh(place, waiting)
        self._waiting[place] = waiting
        return None

    def freshness_ms(self) -> dict[str, float]:
        """The 50th, 95th and 99th percentile and the maximum; zeros before the first list."""
        values = np.array(self._freshness_ms or [0], np.float64)
        p50, p95, p99 = np.percentile(values, (50, 95, 99))
        return {
            "p50": round(float(p50), 1),
            "p95": round(float(p95), 1),
            "p99": round(float(p99), 1),
            "max": float(values.max()),
        }

    def _refresh(self, place: Place, waiting: _Waiting) -> Refresh:
        event, event_ms = self._events[place]
        self._freshness_ms.append(waiting.append_ms - event_ms)
        open_events = self._unanswered.get(event.user_id, {})
        for other in [other for other, at_ms in open_events.items() if at_ms <= event_ms]:
            del open_events[other]
        return Refresh(event, waiting.before, waiting.made, waiting.append_ms - event_ms)
