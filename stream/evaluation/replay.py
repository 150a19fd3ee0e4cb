"""Replay of a shop's log through the very code that serves, with a list asked for after each item.

The protocol, so that nothing is peeked at: what a session teaches, to the item signals and to the shopper's
own state, counts from the minute after its end on; guests are shoppers of their own per session; an item is
in the catalogue once a session with it has ended, under the text known by then. After each of the
first 19 distinct items of a session a list is asked for, and the next distinct item is the target.

Where the policy releases signals with noise, lists read the releases: each is made when its period is over,
of the sessions that had ended by then.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np

from stream.catalog.view import CatalogView
from stream.core import signals
from stream.core.bots import impossible
from stream.core.candidates import Candidates, gather, trending
from stream.core.context import NO_HITS, Context, Hits, rows_needed
from stream.core.events import ClickEvent, Line, Source
from stream.core.items import FloatArray, Item, ItemTable
from stream.core.listing import recommendation_id
from stream.core.policy import Policy, ReleasePolicy
from stream.core.quality import Quality, assess
from stream.core.release import Counts, Period, fold_released, period_of, released_increments
from stream.core.state import UserState, apply, empty
from stream.evaluation.sessions import Session, Step
from stream.fakes import ExactIndex, WordIndex
from stream.lists.list_context import context_of
from stream.ports import ItemVector
from stream.telemetry.metrics import Telemetry

POLICY = Policy(exclude_bought_days=0.0)
"""The policy that serves, but for bought items: the protocol only masks those of the session."""
LISTS_PER_SESSION = 19

ENCODER = "1"
"""What the one version of the encoder is called here."""

Vectors = Mapping[str, FloatArray]
"""Vectors [384] by the text that they are of."""
Release = Callable[[Mapping[str, int], Collection[str]], Mapping[str, float]]
"""Gives what is released of counts and a catalogue, see `stream.ports.Noise.release`."""
Beside = Sequence[tuple[ReleasePolicy, Sequence[Release]]]
"""Further releases of the same signals: what is counted, and each way to release it."""

_T = TypeVar("_T")


class ListAsked(NamedTuple):
    """One list the replay asks for, and the item that came next; `shown` are the session's items so far.

    `sessions_before` is how many sessions of this shopper were known. `again` says what a list would be made
    from now, had the shopper another state, `beside` what it would be made from by each further release.
    """

    session: Session
    context: Context
    candidates: Candidates
    target: str
    shown: tuple[str, ...]
    sessions_before: int
    again: Callable[[UserState], Context]
    beside: Callable[[], Iterator[Context]]

    @property
    def recommendation_id(self) -> str:
        """The id that the list has where a worker makes it as the event happens."""
        return recommendation_id(self.context.state.user_id, self.context.state.sequence)


class _Trends:
    """Popularity by slot and what trends, worked out when a list is asked for after something was learnt."""

    def __init__(self) -> None:
        self.popularity: FloatArray = np.zeros((0, len(signals.POPULARITY_DAYS)), np.float32)
        self.trending = NO_HITS
        self.trending_by_category: Mapping[int, Hits] = {}
        self.stale = True


class _Signals:
    """What lists read of what was learnt about items."""

    def __init__(self, items: ItemTable, min_shoppers: int) -> None:
        self._items = items
        self._min_shoppers = min_shoppers
        self._rows: dict[str, signals.ItemSignals] = {}
        self._views: dict[str, signals.RowView] = {}
        self._trends = _Trends()

    def learn(
        self,
        taught: Mapping[str, _T],
        fold: Callable[[signals.ItemSignals | None, _T], signals.ItemSignals],
    ) -> None:
        """Fold what was taught into rows."""
        self.outdate()
        for item_id, new in taught.items():
            row = self._rows[item_id] = fold(self._rows.get(item_id), new)
            self._views.pop(item_id, None)
            self._fitted_popularity()[self._items.slot(item_id)] = row.popularity

    def outdate(self) -> None:
        """Have what trends worked out anew, since there may be more items."""
        self._trends.stale = True

    def rows(self, item_ids: Collection[str]) -> dict[str, signals.RowView]:
        """The rows of those items of which something was learnt."""
        for item_id in item_ids:
            if item_id in self._rows and item_id not in self._views:
                self._views[item_id] = signals.view(self._rows[item_id], self._items, self._min_shoppers)
        return {item_id: self._views[item_id] for item_id in item_ids if item_id in self._views}

    def trends(self) -> _Trends:
        """Popularity of all slots there are, and what trends."""
        trends = self._trends
        if trends.stale:
            trends.trending, trends.trending_by_category = trending(self._items, self._fitted_popularity())
            trends.stale = False
        return trends

    def _fitted_popularity(self) -> FloatArray:
        trends = self._trends
        missing = len(self._items.available) - len(trends.popularity)
        if missing:
            more = np.full((missing, len(signals.POPULARITY_DAYS)), signals.NEGLIGIBLE, np.float32)
            trends.popularity = np.concatenate([trends.popularity, more])
        return trends.popularity


class _Released:
    """What shoppers teach, held back until its period is over, and then released in one or several ways."""

    def __init__(self, policy: ReleasePolicy, ways: Sequence[tuple[Release, _Signals]]) -> None:
        self._policy = policy
        self._ways = ways
        self._counts = Counts(policy)
        self._period: Period | None = None

    def add(self, shopper: str, at_ms: int, taught: Mapping[str, signals.Increment]) -> None:
        """Note what an event taught; one of a period that was released teaches nothing."""
        if self._period is not None and self._period.holds(at_ms):
            self._counts.add(shopper, taught)

    def until(self, now_ms: int, items: ItemTable) -> None:
        """Release what is over by a time, of the items that the catalogue has then."""
        period = period_of(now_ms, self._policy.period_days)
        before, self._period = self._period, period
        if before in (None, period):
            return
        counts, self._counts = self._counts.bounded(), Counts(self._policy)
        catalogue = [item.item_id for item in items]
        for release, learnt in self._ways:
            learnt.learn(released_increments(release(counts, catalogue), before), fold_released)


class Shop:
    """All that the worker keeps, in memory: catalogue, signals, states of shoppers.

    Args:
        release: gives what is released of the signals; None where lists read them as they are.
        beside: what else to release, for lists to be compared.
    """

    def __init__(
        self,
        vectors: Vectors,
        policy: Policy = POLICY,
        release: Release | None = None,
        beside: Beside = (),
    ) -> None:
        self._catalog = CatalogView(ExactIndex, WordIndex(), Telemetry(), policy)
        self._policy = policy
        self._vectors = vectors
        self._states: dict[str, UserState] = {}
        self._sessions: dict[str, int] = {}
        self._offset = 0
        self._signals = self._no_signals()
        self._raw = release is None
        self._released = [] if release is None else [_Released(policy.release, [(release, self._signals)])]
        self._beside: list[_Signals] = []
        for counted, ways in beside:
            signals_of = [self._no_signals() for _ in ways]
            self._beside += signals_of
            self._released.append(_Released(counted, list(zip(ways, signals_of, strict=True))))

    def lists(self, session: Session) -> Iterator[ListAsked]:
        """Ask for a list after each distinct item of a session but the last."""
        state = self._states.get(session.shopper, empty(session.shopper))
        shown: dict[str, None] = {}
        events = self._events(session)
        for step, event in zip(session.steps, events, strict=True):
            if step.item_id not in shown and shown:
                at_ms = state.interactions[-1].at_ms
                again = partial(self._context, at_ms=at_ms, learnt=self._signals)
                context = again(state)
                candidates = gather(context, self._policy)
                before = self._sessions.get(session.user_id, 0)
                beside = partial(self._contexts_beside, state, at_ms)
                yield ListAsked(
                    session, context, candidates, step.item_id, tuple(shown), before, again, beside
                )
                if len(shown) == LISTS_PER_SESSION:
                    return
            shown[step.item_id] = None
            state = _numbered(apply(state, event, self._policy), event)

    def release(self, now_ms: int) -> None:
        """Let lists read what is released by a time, where signals are released."""
        for released in self._released:
            released.until(now_ms, self._catalog.items)

    def learn(self, sessions: Sequence[Session]) -> None:
        """Learn from sessions that have ended."""
        if not sessions:
            return
        pending: dict[str, list[signals.Increment]] = {}
        for session in sessions:
            events = self._events(session)
            self._offset += len(events)
            state = self._states.get(session.shopper, empty(session.shopper))
            for event in events:
                after = apply(state, event, self._policy)
                if impossible(after, event.at_ms, self._policy) is None:
                    taught = signals.increments(state, after, event, self._policy)
                    for released in self._released:
                        released.add(session.shopper, event.at_ms, taught)
                    for item_id, increment in taught.items() if self._raw else ():
                        pending.setdefault(item_id, []).append(increment)
                state = _numbered(after, event)
            if session.user_id:
                self._states[session.user_id] = state
                self._sessions[session.user_id] = self._sessions.get(session.user_id, 0) + 1
            self._take_items(session)
        for learnt in (self._signals, *self._beside):
            learnt.outdate()
        self._signals.learn(pending, signals.fold)

    def _no_signals(self) -> _Signals:
        return _Signals(self._catalog.items, self._policy.min_shoppers)

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
        items = self._catalog.items
        for step in session.steps:
            known = items.get(step.item_id)
            if known is None or (step.text and known.title == step.item_id):
                first_ms = known.first_seen_ms if known else session.minute_ms
                self._catalog.apply([(step.item_id, self._item(step, first_ms))])
            if step.price is not None:
                items.price[items.slot(step.item_id)] = step.price

    def _item(self, step: Step, first_seen_ms: int) -> ItemVector:
        """An item as the catalogue's writer would send it; one without a text is not judged by it."""
        quality = assess(step.text) if step.text else Quality(1.0, ())
        item = Item(
            step.item_id,
            step.text or step.item_id,
            price=step.price,
            first_seen_ms=first_seen_ms,
            quality=quality.score,
            quality_findings=quality.findings,
        )
        vector = self._vectors.get(step.text)
        source = Source("items", 0, len(self._catalog.items), first_seen_ms)
        return ItemVector(item, {} if vector is None else {ENCODER: vector}, source)

    def _context(self, state: UserState, at_ms: int, learnt: _Signals) -> Context:
        return context_of(
            state,
            at_ms,
            catalog=self._catalog,
            space=self._catalog.space,
            rows=learnt.rows(rows_needed(state, self._policy)),
            trends=learnt.trends(),
            policy=self._policy,
            now_ms=at_ms,
        )

    def _contexts_beside(self, state: UserState, at_ms: int) -> Iterator[Context]:
        return (self._context(state, at_ms, learnt) for learnt in self._beside)


def _numbered(state: UserState, event: ClickEvent) -> UserState:
    """The state as it is saved with the list that answers the event, the clock being the event's."""
    return state._replace(sequence=max(state.sequence + 1, event.at_ms))


def replay(
    sessions: Sequence[Session],
    vectors: Vectors,
    wanted: Callable[[Session], bool],
    learnt: Callable[[Session], None] = lambda session: None,
    policy: Policy = POLICY,
    release: Release | None = None,
    beside: Beside = (),
) -> Iterator[ListAsked]:
    """Play all sessions in order of time and yield the lists of those that are wanted.

    Args:
        sessions: in order, see `stream.evaluation.sessions.in_order`.
        learnt: is given each session when what it teaches begins to count, in order of time.
        release, beside: as of `Shop`.
    """
    shop = Shop(vectors, policy, release, beside)
    running: list[tuple[int, int, Session]] = []
    numbered = enumerate(sessions)
    for minute_ms, beginning in groupby(numbered, key=lambda one: one[1].minute_ms):
        ended = []
        while running and running[0][0] < minute_ms:
            ended.append(heapq.heappop(running)[2])
        shop.learn(ended)
        shop.release(minute_ms)
        for session in ended:
            learnt(session)
        for number, session in beginning:
            heapq.heappush(running, (session.ended_ms, number, session))
            if wanted(session):
                yield from shop.lists(session)
