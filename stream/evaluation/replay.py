"""Replay of Online Retail II through the very code that serves, with a list asked for after each line.

The protocol, so that nothing is peeked at: a session is a sales invoice, its events are its lines in file
order without repeats; what a session teaches, to the item signals and to the shopper's own state, counts
from the next minute on (the file's clock has minutes); guests are shoppers of their own per invoice; an
item is in the catalogue once it was sold. After event k = 1 to 19 a list is asked for and the next line
is the target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stream.core import signals
from stream.core.candidates import (
    NEAR_SESSION,
    NEAR_TASTE,
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
from stream.core.policy import MINUTE_MS, Policy
from stream.core.state import UserState, apply, empty
from stream.core.vectors import ItemVectors
from stream.importers.online_retail import Sale, read_sales

POLICY = Policy(exclude_bought_days=0.0)
"""The policy that serves, but for bought items: the protocol only masks those of the session."""
LISTS_PER_SESSION = 19


class Session(NamedTuple):
    """One sales invoice, its lines without repeats; `user_id` is "" for a guest."""

    invoice: str
    minute_ms: int
    user_id: str
    sales: tuple[Sale, ...]


class ListAsked(NamedTuple):
    """One list the replay asks for, and the item that came next."""

    session: Session
    context: Context
    candidates: Candidates
    target: str
    shown: tuple[str, ...]


def read_sessions(path: Path, progress: Callable[[int], None] | None = None) -> list[Session]:
    """Read the sales of products as sessions, in order of time.

    Args:
        progress: is told the bytes read so far.

    Raises:
        WrongFile: it cannot be read, or its columns are others.
    """
    invoices: dict[str, dict[str, Sale]] = {}
    for sale in read_sales(path, Counter(), progress=progress):
        sale = sale._replace(stock_code=sale.stock_code.upper())
        invoices.setdefault(sale.invoice, {}).setdefault(sale.stock_code, sale)
    sessions = []
    for invoice, sales in invoices.items():
        first = next(iter(sales.values()))
        minute_ms = first.at_ms - first.at_ms % MINUTE_MS
        sessions.append(Session(invoice, minute_ms, first.customer_id, tuple(sales.values())))
    return sorted(sessions, key=lambda session: session.minute_ms)


def titles(sessions: list[Session]) -> dict[str, str]:
    """The first title of each item."""
    found: dict[str, str] = {}
    for session in sessions:
        for sale in session.sales:
            if sale.title:
                found.setdefault(sale.stock_code, sale.title)
    return found


class Shop:
    """All that the worker keeps, in memory: catalogue, signals, states of shoppers."""

    def __init__(self, names: Mapping[str, str], vectors: Mapping[str, FloatArray]) -> None:
        self.items = ItemTable(8192)
        self.space = ItemVectors(8192)
        self.popularity = np.full((8192, len(signals.POPULARITY_DAYS)), -np.inf, np.float32)
        self._names = names
        self._vectors = vectors
        self._rows: dict[str, signals.ItemSignals] = {}
        self._views: dict[str, signals.RowView] = {}
        self._states: dict[str, UserState] = {}
        self._offset = 0
        self._fresh: tuple[Hits, dict[int, Hits], IntArray] | None = None

    def play(self, minute: list[Session], wanted: Callable[[Session], bool]) -> Iterator[ListAsked]:
        """Play the sessions of one minute side by side, then learn from all of them."""
        learnt = [(session, self._events(session)) for session in minute]
        for session, events in learnt:
            if wanted(session):
                yield from self._lists(session, events)
        self._learn(learnt)

    def _lists(self, session: Session, events: list[ClickEvent]) -> Iterator[ListAsked]:
        state = self._states.get(events[0].user_id, empty(events[0].user_id))
        for position, event in enumerate(events[: min(len(events) - 1, LISTS_PER_SESSION)]):
            state = apply(state, event, POLICY)
            context = self._context(state, event.at_ms)
            shown = tuple(sale.stock_code for sale in session.sales[: position + 1])
            target = session.sales[position + 1].stock_code
            yield ListAsked(session, context, gather(context, POLICY), target, shown)

    def _events(self, session: Session) -> list[ClickEvent]:
        user_id = session.user_id or f"guest-{session.invoice}"
        events = []
        for sale in session.sales:
            self._offset += 1
            source = Source("clicks", 0, self._offset, sale.at_ms)
            lines = (Line(sale.stock_code, sale.quantity, sale.price),)
            name = f"{session.invoice}-{sale.line}"
            events.append(
                ClickEvent(name, user_id, sale.at_ms, source, "purchase", lines, session.invoice, None)
            )
        return events

    def _context(self, state: UserState, at_ms: int) -> Context:
        if self._fresh is None:
            self._fresh = (*trending(self.items, self.popularity), newest(self.items))
        session = session_vector(state, self.items, self.space, POLICY)
        taste = taste_vector(state, self.items, self.space)
        return Context(
            state=state,
            at_ms=at_ms,
            items=self.items,
            space=self.space,
            rows={i: self._view(i) for i in rows_needed(state, POLICY) if i in self._rows},
            popularity=self.popularity,
            trending=self._fresh[0],
            trending_by_category=self._fresh[1],
            new_items=self._fresh[2],
            session_vector=session,
            taste_vector=taste,
            near_session=self._near(session, NEAR_SESSION),
            near_taste=self._near(taste, NEAR_TASTE),
        )

    def _view(self, item_id: str) -> signals.RowView:
        view = self._views.get(item_id)
        if view is None:
            view = self._views[item_id] = signals.view(self._rows[item_id], self.items)
        return view

    def _near(self, vector: FloatArray | None, limit: int) -> Hits:
        if vector is None:
            return Hits(np.zeros(0, np.int32), np.zeros(0, np.float32))
        cosines = self.space.vectors[: len(self.items)] @ vector
        limit = min(limit, len(cosines))
        best = np.argpartition(-cosines, limit - 1)[:limit]
        best = best[np.argsort(-cosines[best])]
        return Hits(best.astype(np.int32), cosines[best])

    def _learn(self, learnt: list[tuple[Session, list[ClickEvent]]]) -> None:
        self._fresh = None
        pending: dict[str, list[signals.Increment]] = {}
        for session, events in learnt:
            user_id = events[0].user_id
            state = self._states.get(user_id, empty(user_id))
            for event in events:
                after = apply(state, event, POLICY)
                for item_id, increment in signals.increments(state, after, event, POLICY).items():
                    pending.setdefault(item_id, []).append(increment)
                state = after
            if session.user_id:
                self._states[user_id] = state
            for sale in session.sales:
                if sale.stock_code not in self.items:
                    title = self._names.get(sale.stock_code, sale.stock_code)
                    item = Item(sale.stock_code, title, price=sale.price, first_seen_ms=session.minute_ms)
                    slot = self.items.put(item)
                    if (vector := self._vectors.get(sale.stock_code)) is not None:
                        self.space.put(slot, vector)
                self.items.price[self.items.slot(sale.stock_code)] = sale.price
        for item_id, new in pending.items():
            row = self._rows[item_id] = signals.fold(self._rows.get(item_id), new)
            self._views.pop(item_id, None)
            self.popularity[self.items.slot(item_id)] = row.popularity


def replay(
    sessions: list[Session],
    vectors: Mapping[str, FloatArray],
    wanted: Callable[[Session], bool],
    played: Callable[[list[Session]], None] = lambda together: None,
) -> Iterator[ListAsked]:
    """Play all sessions in order of time and yield the lists of those that are wanted.

    Args:
        played: is given the sessions of each minute when it is over.
    """
    shop = Shop(titles(sessions), vectors)
    for _, minute in groupby(sessions, key=lambda session: session.minute_ms):
        together = list(minute)
        yield from shop.play(together, wanted)
        played(together)
