"""A small seeded shop whose shoppers' sessions were learnt from, for the tests of the pure core."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream.core import signals
from stream.core.candidates import trending
from stream.core.context import Context, Hits, query_of, rows_needed, session_vector, taste_vector
from stream.core.events import EVENT_TYPES, ClickEvent, EventType, Line, SearchEvent, Source
from stream.core.items import DIMENSIONS, FloatArray, IntArray, Item, ItemTable
from stream.core.policy import DAY_MS, HOUR_MS, Policy
from stream.core.signals import Increment, ItemSignals, RowView
from stream.core.sources import NEW
from stream.core.state import UserState, apply, empty
from stream.core.vectors import ItemVectors

NOW_MS = 1_790_000_000_000


class RankingShop:
    """Items with vectors near those of their category, and shoppers who walk among like items.

    Args:
        sessions: how many are learnt from, one after the other in the last days.
    """

    def __init__(
        self,
        *,
        items: int = 120,
        categories: int = 4,
        sessions: int = 60,
        events: int = 6,
        seed: int = 0,
        policy: Policy | None = None,
    ) -> None:
        self.policy = policy or Policy()
        self.random = np.random.default_rng(seed)
        self.items = ItemTable(items + 64)
        self.space = ItemVectors(items + 64)
        self.popularity = np.full((items + 64, len(signals.POPULARITY_DAYS)), signals.NEGLIGIBLE, np.float32)
        self.signals: dict[str, ItemSignals] = {}
        self.states: dict[str, UserState] = {}
        self._offset = 0
        centres = self.random.standard_normal((categories, DIMENSIONS))
        for number in range(items):
            category = number * categories // items
            slot = self.items.put(
                Item(
                    f"item-{number}",
                    f"THING {number}",
                    category=f"KIND {category}",
                    price=None if number % 9 == 0 else 1.0 + number,
                    available=number % 11 != 0,
                    first_seen_ms=NOW_MS - number * DAY_MS,
                )
            )
            if number % 7:
                self.space.put(slot, self._near(centres[category]))
        for number in range(sessions):
            user_id = f"user-{number % max(1, sessions // 3)}"
            at_ms = NOW_MS - (sessions - number) * HOUR_MS
            place = int(self.random.integers(items))
            for step in range(events):
                place = (place + int(self.random.integers(-4, 5))) % items
                kind = EVENT_TYPES[int(self.random.choice([0, 0, 0, 1, 2, 4]))]
                self.click(user_id, f"item-{place}", kind, at_ms=at_ms + step * 1_000)

    def _near(self, centre: Any) -> FloatArray:
        vector = centre + self.random.standard_normal(DIMENSIONS)
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    def state(self, user_id: str) -> UserState:
        """The state of a shopper, empty where nothing was done."""
        return self.states.get(user_id, empty(user_id))

    def click(
        self, user_id: str, item_id: str, kind: EventType = "view_item", *, at_ms: int = NOW_MS
    ) -> UserState:
        """Let a shopper do something, and learn from it."""
        self._offset += 1
        source = Source("clicks", 0, self._offset, at_ms)
        event = ClickEvent(
            f"c{self._offset}", user_id, at_ms, source, kind, (Line(item_id, 1, None),), None, None
        )
        before = self.state(user_id)
        after = self.states[user_id] = apply(before, event, self.policy)
        for name, increment in signals.increments(before, after, event, self.policy).items():
            self.learn(name, increment)
        return after

    def learn(self, item_id: str, increment: Increment) -> None:
        """Fold one increment into an item's row."""
        row = self.signals[item_id] = signals.fold(self.signals.get(item_id), [increment])
        slot = self.items.slot(item_id)
        if slot is not None:
            self.popularity[slot] = row.popularity

    def search(self, user_id: str, query: str, *, at_ms: int = NOW_MS) -> UserState:
        """Let a shopper search."""
        self._offset += 1
        source = Source("searches", 0, self._offset, at_ms)
        event = SearchEvent(f"s{self._offset}", user_id, at_ms, source, query, None, None)
        self.states[user_id] = apply(self.state(user_id), event, self.policy)
        return self.states[user_id]

    def row(self, item_id: str) -> RowView:
        """An item's signals by slot."""
        return signals.view(self.signals[item_id], self.items, 1)

    def context(self, user_id: str, *, at_ms: int = NOW_MS, **more: Any) -> Context:
        """What a list of a shopper is made from; `more` replaces or adds fields."""
        state = self.state(user_id)
        overall, by_category = trending(self.items, self.popularity)
        session = session_vector(state, self.items, self.space, self.policy)
        taste = taste_vector(state, self.items, self.space)
        return Context(
            **{
                "state": state,
                "at_ms": at_ms,
                "items": self.items,
                "space": self.space,
                "rows": {i: self.row(i) for i in rows_needed(state, self.policy) if i in self.signals},
                "popularity": self.popularity,
                "trending": overall,
                "trending_by_category": by_category,
                "new_items": self.newest(),
                "session_vector": session,
                "taste_vector": taste,
                "near_session": self.nearest(session),
                "near_taste": self.nearest(taste),
                "query": query_of(state, at_ms, self.policy),
                **more,
            }
        )

    def newest(self) -> IntArray:
        """The newest available items, newest first."""
        offered = np.flatnonzero(self.items.available)
        order = np.argsort(-self.items.first_seen_ms[offered], kind="stable")
        return offered[order[: NEW.limit]].astype(np.int32)

    def nearest(self, vector: FloatArray | None, limit: int = 100) -> Hits:
        """The items nearest to a vector, by looking at all."""
        if vector is None:
            return Hits(np.zeros(0, np.int32), np.zeros(0, np.float32))
        known = np.flatnonzero(self.space.has_vector)
        cosines = self.space.vectors[known] @ vector
        order = np.argsort(-cosines)[:limit]
        return Hits(known[order].astype(np.int32), cosines[order])

    def slot(self, item_id: str) -> int:
        """The slot of an item that is in the catalogue."""
        slot = self.items.slot(item_id)
        assert slot is not None
        return slot

    def names(self, slots: Any) -> list[str]:
        """The ids of the items in some slots."""
        return [self.items.at(int(slot)).item_id for slot in slots]
