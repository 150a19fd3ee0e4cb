"""Replay of a shop's log through the very code that serves, with a list asked for after each item.

The protocol, so that nothing is peeked at: what a session teaches, to the item signals and to the shopper's
own state, counts from the minute after its end on; guests are shoppers of their own per session; an item is
in the catalogue once a session with it has ended, under the text known by then. After each of the
first 19 distinct items of a session a list is asked for, and the next distinct item is the target.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

import numpy as np

from stream.core import signals
from stream.core.bots import impossible
from stream.core.candidates import (
    NO_HITS,
    Candidates,
    Context,
    Hits,
    gather,
    newest,
    rows_needed,
    session_vector,
    taste_vector,
    trending,
)
from stream.core.events import ClickEvent, Line, Source
from stream.core.items import FloatArray, IntArray, Item, ItemTable
from stream.core.policy import Policy
from stream.core.sources import SIMILAR, TASTE
from stream.core.state import UserState, apply, empty
from stream.core.vectors import ItemVectors
from stream.evaluation.sessions import Session

POLICY = Policy(exclude_bought_days=0.0)
"""The policy that serves, but for bought items: the protocol only masks those of the session."""
LISTS_PER_SESSION = 19

Vectors = Mapping[str, FloatArray]
"""Vectors [384] by the text that they are of."""


class ListAsked(NamedTuple):
    """One list the replay asks for, and the item that came next; `shown` are the session's items so far.

    `sessions_before` is how many sessions of this shopper were known. `again` says what a list would be made
    from now, had the shopper another state.
    """

    session: Session
    context: Context
    candidates: Candidates
    target: str
    shown: tuple[str, ...]
    sessions_before: int
    again: Callable[[UserState], Context]


class Shop:
    """All that the worker keeps, in memory: catalogue, signals, states of shoppers."""

    def __init__(self, vectors: Vectors, policy: Policy = POLICY) -> None:
        self.items = ItemTable(8192, policy.min_quality)
        self.space = ItemVectors(8192)
        self.popularity = np.full((8192, len(signals.POPULARITY_DAYS)), signals.NEGLIGIBLE, np.float32)
        self._policy = policy
        self._vectors = vectors
        self._rows: dict[str, signals.ItemSignals] = {}
        self._views: dict[str, signals.RowView] = {}
        self._states: dict[str, UserState] = {}
        self._sessions: dict[str, int] = {}
        self._offset = 0
        self._fresh: tuple[Hits, dict[int, Hits], IntArray] | None = None

    def lists(self, session: Session) -> Iterator[ListAsked]:
        """Ask for a list after each distinct item of a session but the last."""
        state = self._states.get(session.shopper, empty(session.shopper))
        shown: dict[str, None] = {}
        events = self._events(session)
        for step, event in zip(session.steps, events, strict=True):
            if step.item_id not in shown and shown:
                newest_step = state.interactions[-1]
                again = partial(
                    self._context, at_ms=newest_step.at_ms, in_view=frozenset((newest_step.item_id,))
                )
                context = again(state)
                candidates = gather(context, self._policy)
                before = self._sessions.get(session.user_id, 0)
                yield ListAsked(session, context, candidates, step.item_id, tuple(shown), before, again)
                if len(shown) == LISTS_PER_SESSION:
                    return
            shown[step.item_id] = None
            state = apply(state, event, self._policy)

    def learn(self, sessions: Sequence[Session]) -> None:
        """Learn from sessions that have ended."""
        if not sessions:
            return
        self._fresh = None
        pending: dict[str, list[signals.Increment]] = {}
        for session in sessions:
            events = self._events(session)
            self._offset += len(events)
            state = self._states.get(session.shopper, empty(session.shopper))
            for event in events:
                after = apply(state, event, self._policy)
                if impossible(after, event.at_ms, self._policy) is None:
                    for item_id, increment in signals.increments(state, after, event, self._policy).items():
                        pending.setdefault(item_id, []).append(increment)
                state = after
            if session.user_id:
                self._states[session.user_id] = state
                self._sessions[session.user_id] = self._sessions.get(session.user_id, 0) + 1
            self._take_items(session)
        for item_id, new in pending.items():
            row = self._rows[item_id] = signals.fold(self._rows.get(item_id), new)
            self._views.pop(item_id, None)
            self.popularity[self.items.slot(item_id)] = row.popularity

    def _events(self, session: Session) -> list[ClickEvent]:
        """The steps as the worker gets them; offsets go on from what was learnt."""
        return [
            ClickEvent(
                f"{session.session_id}-{number}",
                session.shopper,
                step.at_ms,
                Source("clicks", 0, self._offset + number, step.at_ms),
                step.event_type,
                (Line(step.item_id, step.quantity, step.price),),
                session.session_id,
                None,
            )
            for number, step in enumerate(session.steps, 1)
        ]

    def _take_items(self, session: Session) -> None:
        """Put new items into the catalogue, give a text to those that had none, and note prices."""
        for step in session.steps:
            known = self.items.get(step.item_id)
            if known is None or (step.text and known.title == step.item_id):
                first_ms = known.first_seen_ms if known else session.minute_ms
                item = Item(step.item_id, step.text or step.item_id, price=step.price, first_seen_ms=first_ms)
                slot = self.items.put(item)
                if slot >= len(self.popularity):
                    more = np.full_like(self.popularity, signals.NEGLIGIBLE)
                    self.popularity = np.concatenate([self.popularity, more])
                self.space.remove(slot)
                if (vector := self._vectors.get(step.text)) is not None:
                    self.space.put(slot, vector)
            if step.price is not None:
                self.items.price[self.items.slot(step.item_id)] = step.price

    def _context(self, state: UserState, at_ms: int, in_view: frozenset[str]) -> Context:
        if self._fresh is None:
            self._fresh = (*trending(self.items, self.popularity), newest(self.items))
        session = session_vector(state, self.items, self.space, self._policy)
        taste = taste_vector(state, self.items, self.space)
        return Context(
            state=state,
            at_ms=at_ms,
            items=self.items,
            space=self.space,
            rows={i: self._view(i) for i in rows_needed(state, self._policy) if i in self._rows},
            popularity=self.popularity,
            in_view=in_view,
            trending=self._fresh[0],
            trending_by_category=self._fresh[1],
            new_items=self._fresh[2],
            session_vector=session,
            taste_vector=taste,
            near_session=self._near(session, SIMILAR.limit),
            near_taste=self._near(taste, TASTE.limit),
        )

    def _view(self, item_id: str) -> signals.RowView:
        view = self._views.get(item_id)
        if view is None:
            view = self._views[item_id] = signals.view(self._rows[item_id], self.items)
        return view

    def _near(self, vector: FloatArray | None, limit: int) -> Hits:
        if vector is None:
            return NO_HITS
        cosines = self.space.vectors[: len(self.items)] @ vector
        limit = min(limit, len(cosines))
        best = np.argpartition(-cosines, limit - 1)[:limit]
        best = best[np.argsort(-cosines[best])]
        return Hits(best.astype(np.int32), cosines[best])


def replay(
    sessions: Sequence[Session],
    vectors: Vectors,
    wanted: Callable[[Session], bool],
    learnt: Callable[[Session], None] = lambda session: None,
    policy: Policy = POLICY,
) -> Iterator[ListAsked]:
    """Play all sessions in order of time and yield the lists of those that are wanted.

    Args:
        sessions: in order, see `stream.evaluation.sessions.in_order`.
        learnt: is given each session when what it teaches begins to count, in order of time.
    """
    shop = Shop(vectors, policy)
    running: list[tuple[int, int, Session]] = []
    numbered = enumerate(sessions)
    for minute_ms, beginning in groupby(numbered, key=lambda one: one[1].minute_ms):
        ended = []
        while running and running[0][0] < minute_ms:
            ended.append(heapq.heappop(running)[2])
        shop.learn(ended)
        for session in ended:
            learnt(session)
        for number, session in beginning:
            heapq.heappush(running, (session.ended_ms, number, session))
            if wanted(session):
                yield from shop.lists(session)
