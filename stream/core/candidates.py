"""From a shopper's state and what is known of the items to a bounded set of candidates with evidence.

`gather` merges the sources, applies the rules and lays out what each source says about each candidate
as columns, on which `stream.core.ranking` and `stream.core.explain` do arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.disguise import clean_query
from stream.core.events import LATEST_MS
from stream.core.items import DIMENSIONS, BoolArray, FloatArray, IntArray, ItemTable
from stream.core.policy import DAY_MS, MINUTE_MS, Policy
from stream.core.search import relative
from stream.core.signals import GAP_DECAY, NEGLIGIBLE, REACH, RowView, neighbours_at
from stream.core.state import REMOVE_FROM_CART, Interaction, Search, UserState, cart_of, session_of
from stream.core.vectors import ItemVectors

SESSION_ROWS = 10
"""Distinct items of the session, newest first, whose neighbours are looked up."""
HISTORY_ROWS = 5
"""The same for the newest items from before the session."""

COVISITED = 110
"""Candidates from the session's neighbours, best first."""
PROFILE = 30
"""Candidates from the neighbours of the items before the session."""
HISTORY = 60
"""Candidates from what the shopper bought or looked at before, newest first."""
NEAR_SESSION = 40
"""Candidates nearest to the session's vector."""
NEAR_TASTE = 20
"""Candidates nearest to the vector of all that is remembered of a shopper."""
TRENDING = 30
"""Candidates that trend in the whole shop."""
TRENDING_IN_CATEGORY = 15
"""Candidates that trend in the category of the session's newest item."""
NEW = 15
"""Candidates that are new in the shop."""
QUERY = 100
"""Candidates that match a search by words, and as many by its vector."""

OFFERS = (
    "search",
    "covisited",
    "profile",
    "history",
    "similar",
    "taste",
    "trending",
    "trending_in_category",
    "new",
    "range",
)
"""Where candidates come from, in the order of their bits."""

RECENCY = 0.55
"""What an item of the session counts for co-visitation, to the power of its age in items."""
SESSION_RECENCY = 0.8
"""The same for the session vector and for how a search ages."""
BACKWARD = 0.5
"""What "came before" counts beside "came after"."""
SHRINK = 10.0
"""Added to popularity under the square roots of the cosine, so that rare items do not win by chance.

These four, like those of `stream.core.signals`, did best on Online Retail II among the values tried; they
choose candidates and shape features, whose weights are trained.
"""


class Hits(NamedTuple):
    """Items found by one source, best first: slots [n] and scores [n]."""

    slots: IntArray
    scores: FloatArray


NO_HITS = Hits(np.zeros(0, np.int32), np.zeros(0, np.float32))


NO_ROW = RowView(NO_HITS.slots, NO_HITS.scores, NO_HITS.scores, NEGLIGIBLE)


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """All that a list is made from. `at_ms` is the trigger's event time, the only clock there is here.

    `popularity` [capacity, len(POPULARITY_DAYS)] holds log2 sums by slot (-inf where unknown), see
    `stream.core.signals`. `trending_by_category` is keyed by the numbers of `items.category`. Vectors
    are [384], L2-normalised and of the one encoder version that made `space`; scores of `near_*` are cosines
    and of `lexical` BM25.
    """

    state: UserState
    at_ms: int
    items: ItemTable
    space: ItemVectors
    rows: Mapping[str, RowView]
    popularity: FloatArray
    in_view: frozenset[str] = frozenset()
    trending: Hits = NO_HITS
    trending_by_category: Mapping[int, Hits] = field(default_factory=dict)
    new_items: IntArray = field(default_factory=lambda: NO_HITS.slots)
    session_vector: FloatArray | None = None
    taste_vector: FloatArray | None = None
    near_session: Hits = NO_HITS
    near_taste: Hits = NO_HITS
    query: Search | None = None
    query_vector: FloatArray | None = None
    lexical: Hits = NO_HITS
    near_query: Hits = NO_HITS
    read: Hits = NO_HITS
    """Those of the search's best matches that the cross-encoder read, with its scores."""
    unlike: IntArray = field(default_factory=lambda: NO_HITS.slots)
    """Items that the cross-encoder finds unlike the session's newest one, whatever their vectors say."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Candidates:
    """N candidates by slot, ascending, and what is known of each; R rows of neighbours were read.

    `forward` and `backward` [R, N] are co-visitation weights now; row r belongs to `row_items[r]`, the
    first `session_rows` of them of the session, newest first. `row_popularity` [R] is their own weight.
    `bought_ms` and `touched_ms` [N] are when the shopper last bought or touched it before this session, 0
    for never; `touches` [N] how often that is remembered; `transition` [N] how often it came near one
    of the session's items then. `cosine_*` [N] are 0 where a vector is missing, `bm25` [N] is divided by
    the best. `offered` [N] has one bit for each of `OFFERS` that named the candidate. `seen` [N] marks items
    of the session, which are there only to fill up a list that would be too short.
    """

    slots: IntArray
    seen: BoolArray
    row_items: tuple[str, ...]
    session_rows: int
    row_popularity: FloatArray
    forward: FloatArray
    backward: FloatArray
    bought_ms: NDArray[np.int64]
    touched_ms: NDArray[np.int64]
    touches: FloatArray
    transition: FloatArray
    cosine_rows: FloatArray
    cosine_session: FloatArray
    cosine_taste: FloatArray
    cosine_query: FloatArray
    bm25: FloatArray
    offered: NDArray[np.uint16]

    def by(self, offer: str) -> BoolArray:
        """Which candidates one of `OFFERS` named [N]."""
        return (self.offered & (1 << OFFERS.index(offer))) > 0

    def __len__(self) -> int:
        return len(self.slots)


def rows_needed(state: UserState, policy: Policy) -> list[str]:
    """The items whose rows of signals a list wants: of the session, then of the time before it."""
    session, before = _split(state, policy)
    return session[:SESSION_ROWS] + before[:HISTORY_ROWS]


def query_of(state: UserState, at_ms: int, policy: Policy) -> Search | None:
    """The newest search, where it still shapes the list, in the letters that it shows."""
    if not state.searches or at_ms - state.searches[-1].at_ms > policy.query_minutes * MINUTE_MS:
        return None
    return state.searches[-1]._replace(query=clean_query(state.searches[-1].query))


def query_age(state: UserState, query: Search) -> int:
    """How many distinct items were touched since a search: it ages as an item of the session does."""
    return len({i.item_id for i in state.interactions if i.at_ms > query.at_ms})


def session_vector(
    state: UserState, items: ItemTable, space: ItemVectors, policy: Policy
) -> FloatArray | None:
    """The mean vector of the session's items, newer ones counting more; None where none is known."""
    session = _split(state, policy)[0][:SESSION_ROWS]
    return _mean_vector(session, SESSION_RECENCY, items, space)


def taste_vector(state: UserState, items: ItemTable, space: ItemVectors) -> FloatArray | None:
    """The mean vector of all items remembered of a shopper; None where none is known."""
    known = dict.fromkeys(i.item_id for i in state.interactions)
    known.update(dict.fromkeys(o.item_id for o in state.owned))
    return _mean_vector(list(known), 1.0, items, space)


def trending(items: ItemTable, popularity: FloatArray) -> tuple[Hits, dict[int, Hits]]:
    """What trends overall and by category number, from the popularity of all items.

    A worker calls it when it has read popularity anew, not for every list.
    """
    trend = popularity[:, 0]
    offered = np.flatnonzero(items.available[: len(trend)] & (trend > -np.inf)).astype(np.int32)
    ordered = offered[np.argsort(-trend[offered], kind="stable")]
    categories = items.category[ordered]
    by_category = {
        int(category): _hits(ordered[categories == category][:TRENDING_IN_CATEGORY], trend)
        for category in np.unique(categories)
        if category
    }
    return _hits(ordered[:TRENDING], trend), by_category


def newest(items: ItemTable) -> IntArray:
    """The newest available items, newest first; called like `trending`."""
    offered = np.flatnonzero(items.available)
    return offered[np.argsort(-items.first_seen_ms[offered], kind="stable")[:NEW]].astype(np.int32)


def gather(context: Context, policy: Policy, only: IntArray | None = None) -> Candidates:
    """Merge the sources into candidates, without what the rules forbid.

    Left out: unavailable and removed items, those in view, in the cart, and bought within
    `policy.exclude_bought_days`. Items seen in this session come in only where the others cannot fill
    a list, and any of the shop's range where even they cannot.

    Args:
        only: slots of known items that are the candidates, all of them and no others, whatever is forbidden.
    """
    items = context.items
    session, before = _split(context.state, policy)
    recent = session[:SESSION_ROWS]
    row_items = recent + before[:HISTORY_ROWS]
    neighbours = _Neighbours(context, row_items)
    history = _History(context, session, policy)
    offered = np.zeros(len(items.available), np.uint16)
    offers = (
        _search_hits(context),
        neighbours.best(context, slice(0, len(recent)), RECENCY, COVISITED),
        neighbours.best(context, slice(len(recent), len(row_items)), 1.0, PROFILE),
        history.slots[:HISTORY],
        _nearest(context.near_session, NEAR_SESSION),
        _nearest(context.near_taste, NEAR_TASTE),
        context.trending.slots[:TRENDING],
        _in_category(context, session),
        context.new_items[:NEW],
    )
    for place, slots in enumerate(offers):
        offered[slots] |= 1 << place
    slots, fill = (
        (np.unique(only), NO_HITS.slots) if only is not None else _allowed(context, policy, session, offered)
    )
    seen_here = np.zeros(len(offered), np.bool_)
    seen_here[fill] = True
    forward, backward = neighbours.of(slots, len(items.available))
    bought_ms, touched_ms = np.zeros((2, len(slots)), np.int64)
    touches, transition = np.zeros((2, len(slots)), np.float32)
    touched, kept = history.places(slots)
    bought_ms[touched] = history.bought_ms[kept]
    touched_ms[touched] = history.touched_ms[kept]
    touches[touched] = history.touches[kept]
    transition[touched] = history.transition[kept]
    cosines = _cosines(context, recent, slots)
    return Candidates(
        slots=slots,
        seen=seen_here[slots],
        row_items=tuple(row_items),
        session_rows=len(recent),
        row_popularity=neighbours.popularity,
        forward=forward,
        backward=backward,
        bought_ms=bought_ms,
        touched_ms=touched_ms,
        touches=touches,
        transition=transition,
        cosine_rows=cosines[: len(recent)],
        cosine_session=cosines[-3],
        cosine_taste=cosines[-2],
        cosine_query=cosines[-1],
        bm25=_bm25(context, slots),
        offered=offered[slots],
    )


def _allowed(
    context: Context, policy: Policy, session: list[str], offered: NDArray[np.uint16]
) -> tuple[IntArray, IntArray]:
    """The slots of what is offered and not forbidden, and those of the session, which may fill up a list.

    Args:
        offered: [capacity], one bit for each of `OFFERS`; what is forbidden is taken out of it.
    """
    items = context.items
    offered[~items.available] = 0
    forbidden = _slots(_forbidden(context, policy), items)
    offered[forbidden] = 0
    seen = _slots(session, items)
    fill = seen[offered[seen] > 0]
    fill_offered = offered[fill]
    offered[fill] = 0
    slots = np.flatnonzero(offered).astype(np.int32)
    if len(slots) < policy.list_length and len(fill):
        offered[fill] = fill_offered
        slots = np.flatnonzero(offered).astype(np.int32)
    if len(slots) < policy.list_length:
        more = _range(items, offered, forbidden, policy.list_length - len(slots))
        offered[more] = 1 << OFFERS.index("range")
        slots = np.flatnonzero(offered).astype(np.int32)
    return slots, fill


def _range(items: ItemTable, offered: NDArray[np.uint16], forbidden: IntArray, limit: int) -> IntArray:
    """The newest items that nothing else offered, for a shop or a shopper of which too little is known."""
    free = items.available & (offered == 0)
    free[forbidden] = False
    slots = np.flatnonzero(free).astype(np.int32)
    newest: IntArray = slots[np.argsort(-items.first_seen_ms[slots], kind="stable")[:limit]]
    return newest


class _Neighbours:
    """The rows of signals laid over one another: each entry is one row's weights for one neighbour."""

    def __init__(self, context: Context, row_items: list[str]) -> None:
        self.row_items = row_items
        views = [context.rows.get(item_id, NO_ROW) for item_id in row_items] or [NO_ROW]
        own = np.array([view.popularity for view in views[: len(row_items)]], np.float32)
        self.popularity = neighbours_at(own, context.at_ms)
        self._slots = np.concatenate([view.slots for view in views])
        self._row = np.repeat(np.arange(len(views)), [len(view.slots) for view in views])
        self._forward = neighbours_at(np.concatenate([view.forward for view in views]), context.at_ms)
        self._backward = neighbours_at(np.concatenate([view.backward for view in views]), context.at_ms)

    def best(self, context: Context, rows: slice, recency: float, limit: int) -> IntArray:
        """The neighbours of some rows with the best recency weighted cosine, in no order."""
        popularity = self.popularity[rows]
        weights = np.zeros(len(self.popularity), np.float32)
        weights[rows] = recency ** np.arange(len(popularity)) / np.sqrt(popularity + SHRINK)
        entries = slice(*np.searchsorted(self._row, [rows.start, rows.stop]))
        slots, row = self._slots[entries], self._row[entries]
        if not len(slots):
            return NO_HITS.slots
        pull = weights[row] * (self._forward[entries] + BACKWARD * self._backward[entries])
        score = np.bincount(slots, pull)
        found = np.flatnonzero(score * context.items.available[: len(score)])
        own = neighbours_at(context.popularity[found, -1], context.at_ms)
        score = score[found] / np.sqrt(own + SHRINK)
        if len(found) > limit:
            found = found[np.argpartition(-score, limit)[:limit]]
        return found.astype(np.int32)

    def of(self, slots: IntArray, capacity: int) -> tuple[FloatArray, FloatArray]:
        """Forward and backward weights [R, len(slots)] of some slots, 0 where they are no neighbours."""
        column = np.full(capacity, -1, np.int32)
        column[slots] = np.arange(len(slots), dtype=np.int32)
        at = column[self._slots]
        entries = np.flatnonzero(at >= 0)
        row, at = self._row[entries], at[entries]
        forward, backward = np.zeros((2, len(self.row_items), len(slots)), np.float32)
        forward[row, at] = self._forward[entries]
        backward[row, at] = self._backward[entries]
        return forward, backward


class _History:
    """What a shopper did before the session, by distinct known item, newest first."""

    def __init__(self, context: Context, session: list[str], policy: Policy) -> None:
        state, slot_of = context.state, context.items.slot
        interactions = state.interactions
        before = interactions[: len(interactions) - len(_session(state, policy))]
        started_ms = interactions[len(before)].at_ms if len(before) < len(interactions) else LATEST_MS
        owned = [o for o in state.owned if o.at_ms < started_ms]
        done = {(i.at_ms, i.item_id) for i in before}
        done.update((o.at_ms, o.item_id) for o in owned)
        place: dict[int, int] = {}
        which: list[int] = []
        times: list[int] = []
        for at_ms, item_id in sorted(done, reverse=True):
            slot = slot_of(item_id)
            if slot is not None:
                which.append(place.setdefault(slot, len(place)))
                times.append(at_ms)
        count = len(place)
        self.slots = np.fromiter(place, np.int32, count)
        entry = np.array(which, np.int64)
        self.touches = np.bincount(entry, minlength=count)
        self.touched_ms = np.zeros(count, np.int64)
        self.touched_ms[entry[::-1]] = times[::-1]  # the newest is written last
        self.bought_ms = np.zeros(count, np.int64)
        for o in owned:
            slot = slot_of(o.item_id)
            if slot is not None:
                self.bought_ms[place[slot]] = o.at_ms
        ages = np.zeros(count)
        for age, item_id in enumerate(session[:SESSION_ROWS]):
            slot = slot_of(item_id)
            if slot in place:
                ages[place[slot]] = RECENCY**age
        self.transition = _transitions(entry, times, ages, policy)

    def places(self, slots: IntArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of some slots the shopper touched, and their places in the columns here."""
        if not len(self.slots):
            return _nowhere, _nowhere
        order = np.argsort(self.slots)
        found = np.searchsorted(self.slots, slots, sorter=order)
        place = order[np.minimum(found, len(self.slots) - 1)]
        touched = np.flatnonzero(self.slots[place] == slots)
        return touched, place[touched]


_nowhere = np.zeros(0, np.int64)


def _transitions(
    which: NDArray[np.int64], times: list[int], weights: NDArray[np.float64], policy: Policy
) -> NDArray[np.float64]:
    """How often each of a shopper's items came near the session's, within a session of the past.

    Args:
        which: item of each entry, newest entry first.
        times: epoch ms of each entry.
        weights: of each item, above 0 where the session holds it.

    Pairs count as in `stream.core.signals.increments`, those before the session's item `BACKWARD` as much.
    """
    if not weights.any():
        return np.zeros(len(weights))
    pauses = -np.diff(times) > policy.session_gap_minutes * MINUTE_MS
    position = np.arange(len(times))
    position[1:] += REACH * np.cumsum(pauses)
    line = np.zeros(position[-1] + 1)
    line[position] = weights[which]
    near = np.convolve(line, _kernel, mode="full")[REACH:-REACH]
    return np.bincount(which, near[position], minlength=len(weights)).astype(np.float64)


_decay = GAP_DECAY ** np.arange(REACH)
_kernel = np.concatenate([_decay[::-1], [0.0], BACKWARD * _decay])
"""Around an entry: what came after it lies before it in an order that is newest first."""


def _session(state: UserState, policy: Policy) -> tuple[Interaction, ...]:
    """The interactions of the session; none where a search began a new one."""
    session = session_of(state, policy)
    if session and state.searches:
        pause_ms = state.searches[-1].at_ms - session[-1].at_ms
        if pause_ms > policy.session_gap_minutes * MINUTE_MS:
            return ()
    return session


def _split(state: UserState, policy: Policy) -> tuple[list[str], list[str]]:
    """The distinct items of the session and of the time before it, each newest first."""
    current = _session(state, policy)
    session = dict.fromkeys(i.item_id for i in reversed(current) if i.kind != REMOVE_FROM_CART)
    earlier = state.interactions[: len(state.interactions) - len(current)]
    before = dict.fromkeys(i.item_id for i in reversed(earlier))
    return list(session), [item_id for item_id in before if item_id not in session]


def _forbidden(context: Context, policy: Policy) -> set[str]:
    since = context.at_ms - policy.exclude_bought_days * DAY_MS
    bought = takewhile(lambda owned: owned.at_ms > since, reversed(context.state.owned))
    return {owned.item_id for owned in bought} | cart_of(context.state) | context.in_view


def _in_category(context: Context, session: list[str]) -> IntArray:
    """What trends in the category of the newest item that has one."""
    for item_id in session:
        slot = context.items.slot(item_id)
        if slot is not None and context.items.category[slot]:
            hits = context.trending_by_category.get(int(context.items.category[slot]), NO_HITS)
            return hits.slots[:TRENDING_IN_CATEGORY]
    return NO_HITS.slots


def _mean_vector(
    item_ids: list[str], recency: float, items: ItemTable, space: ItemVectors
) -> FloatArray | None:
    slots = np.array([-1 if (slot := items.slot(i)) is None else slot for i in item_ids], np.int64)
    weights = recency ** np.arange(len(slots))
    known = np.flatnonzero(slots >= 0)
    known = known[space.has_vector[slots[known]]]
    if not len(known):
        return None
    mean = weights[known].astype(np.float32) @ space.vectors[slots[known]]
    length = float(np.linalg.norm(mean))
    return (mean / length).astype(np.float32) if length > 0 else None


def _cosines(context: Context, session: list[str], slots: IntArray) -> FloatArray:
    """Cosines [len(session) + 3, N]: by session item, then with the session, taste and query vectors."""
    items = context.items
    sides = np.zeros((len(session) + 3, DIMENSIONS), np.float32)
    for side, item_id in enumerate(session):
        slot = items.slot(item_id)
        if slot is not None:
            sides[side] = context.space.vectors[slot]
    whole = (context.session_vector, context.taste_vector, context.query_vector)
    for side, vector in enumerate(whole, start=len(session)):
        if vector is not None:
            sides[side] = vector
    cosines: FloatArray = sides @ context.space.vectors[slots].T
    return cosines


def _bm25(context: Context, slots: IntArray) -> FloatArray:
    """BM25 divided by the best, 0 where the search's words do not occur."""
    result = np.zeros(len(slots), np.float32)
    if len(context.lexical.slots) and len(slots):
        order = np.argsort(slots)
        place = order[np.minimum(np.searchsorted(slots, context.lexical.slots, sorter=order), len(slots) - 1)]
        known = slots[place] == context.lexical.slots
        result[place[known]] = relative(context.lexical.scores)[known]
    return result


def _nearest(hits: Hits, limit: int) -> IntArray:
    """The nearest of some hits that are not opposite."""
    return hits.slots[:limit][hits.scores[:limit] > 0]


def _search_hits(context: Context) -> IntArray:
    """What a search found, by words and by vectors."""
    return np.concatenate([context.lexical.slots[:QUERY], _nearest(context.near_query, QUERY)])


def _hits(slots: IntArray, scores: FloatArray) -> Hits:
    return Hits(slots, scores[slots])


def _slots(item_ids: Iterable[str], items: ItemTable) -> IntArray:
    """The slots of those items that are known."""
    return np.array([slot for i in item_ids if (slot := items.slot(i)) is not None], np.int32)
