"""From a shopper's state and what is known of the items to a bounded set of candidates with evidence.

`gather` merges the sources, applies the rules and lays out what each source says about each candidate
as columns, on which `stream.core.ranking` and `stream.core.explain` do arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from stream.core.context import NO_HITS, Context, Hits
from stream.core.evidence import evidence
from stream.core.items import DIMENSIONS, BoolArray, FloatArray, IntArray, ItemTable
from stream.core.policy import DAY_MS, Policy
from stream.core.search import relative
from stream.core.sources import SOURCES, TRENDING, TRENDING_IN_CATEGORY
from stream.core.state import cart_of

RANGE = "range"
PINNED = "pinned"
OFFERS = (*(source.name for source in SOURCES), RANGE, PINNED)
"""Where candidates come from, in the order of their bits: the sources, what fills up a short list, rules."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Candidates:
    """N candidates by slot, ascending, and what is known of each; R rows of neighbours were read.

    `forward` and `backward` [R, N] are co-visitation weights now; row r belongs to `row_items[r]`, an item of
    the session, newest first. `row_popularity` [R] is their own weight.
    `recent` [N] is the cosine with the session of the last weeks, `following` and `following_share` [N] how
    much came right after the newest item, `companions` [N] the nearness in past sessions like this one.
    `bought_ms` and `touched_ms` [N] are when the shopper last bought or touched it before this session, 0
    for never. `past` [6, N] is 0 for those: how often that is remembered; how often it came near one of the
    session's items then, after one, and right after the newest; how many sessions ago it was last touched,
    and in how many. `visits` is how many past sessions are known and `rhythm_days` what lies between two.
    `cosine_*` [N] are 0 where a vector is missing, `bm25` [N] is divided by
    the best. `offered` [N] has one bit for each of `OFFERS` that named the candidate. `seen` [N] marks items
    of the session, which are there only to fill up a list that would be too short.
    """

    slots: IntArray
    seen: BoolArray
    row_items: tuple[str, ...]
    row_popularity: FloatArray
    forward: FloatArray
    backward: FloatArray
    recent: FloatArray
    following: FloatArray
    following_share: FloatArray
    companions: FloatArray
    bought_ms: NDArray[np.int64]
    touched_ms: NDArray[np.int64]
    past: FloatArray
    visits: int
    rhythm_days: float
    cosine_rows: FloatArray
    cosine_session: FloatArray
    cosine_taste: FloatArray
    cosine_query: FloatArray
    bm25: FloatArray
    offered: NDArray[np.uint32]

    def by(self, offer: str) -> BoolArray:
        """Which candidates one of `OFFERS` named [N]."""
        return (self.offered & _BITS[offer]) > 0

    def only(self, at: NDArray[np.intp]) -> Candidates:
        """Those at some positions, in that order."""
        columns = {name: getattr(self, name).take(at, axis=-1) for name in _COLUMNS}
        return Candidates(**columns, **{name: getattr(self, name) for name in _BESIDE})

    def __len__(self) -> int:
        return len(self.slots)


_BITS = {offer: 1 << bit for bit, offer in enumerate(OFFERS)}
_BESIDE = ("row_items", "row_popularity", "visits", "rhythm_days")
_COLUMNS = tuple(column.name for column in fields(Candidates) if column.name not in _BESIDE)
"""What there is of each candidate, in the last axis."""


def trending(items: ItemTable, popularity: FloatArray) -> tuple[Hits, dict[int, Hits]]:
    """What trends overall and by category number, from the popularity of all items.

    A worker calls it when it has read popularity anew, not for every list.
    """
    trend = popularity[:, 0]
    offered = np.flatnonzero(items.available[: len(trend)] & (trend > -np.inf)).astype(np.int32)
    ordered = offered[np.argsort(-trend[offered], kind="stable")]
    categories = items.category[ordered]
    by_category = {
        int(category): _hits(ordered[categories == category][: TRENDING_IN_CATEGORY.limit], trend)
        for category in np.unique(categories)
        if category
    }
    return _hits(ordered[: TRENDING.limit], trend), by_category


def gather(context: Context, policy: Policy, only: IntArray | None = None) -> Candidates:
    """Merge the sources into candidates, without what the rules forbid.

    Left out: unavailable and removed items, those that a rule of the shop bars, those in view, in the
    cart, and bought within `policy.exclude_bought_days` or the cycle that a rule names. Items seen in this
    session come in only where the others cannot fill a list, and any of the shop's range where even they
    cannot. What a rule pins is a candidate unless it is left out.

    Args:
        only: slots of known items that are the candidates, all of them and no others, whatever is forbidden.
    """
    items = context.items
    known = evidence(context, policy)
    offered = np.zeros(len(items.available), np.uint32)
    for place, source in enumerate(SOURCES):
        offered[source.find(known)] |= 1 << place
    slots, fill = (
        (np.unique(only), NO_HITS.slots)
        if only is not None
        else _allowed(context, policy, known.session, offered)
    )
    seen_here = np.zeros(len(offered), np.bool_)
    seen_here[fill] = True
    related = known.neighbours.of(slots)
    bought_ms, touched_ms = np.zeros((2, len(slots)), np.int64)
    past = np.zeros((6, len(slots)), np.float32)
    history = known.history
    touched, kept = history.places(slots)
    bought_ms[touched] = history.bought_ms[kept]
    touched_ms[touched] = history.touched_ms[kept]
    past[:, touched] = history.past[:, kept]
    cosines = _cosines(context, known.neighbours.row_slots, slots)
    return Candidates(
        slots=slots,
        seen=seen_here.take(slots),
        row_items=tuple(known.neighbours.row_items),
        row_popularity=known.neighbours.popularity,
        forward=related.forward,
        backward=related.backward,
        recent=related.recent,
        following=related.following,
        following_share=related.following_share,
        companions=known.neighbours.companions().take(slots),
        bought_ms=bought_ms,
        touched_ms=touched_ms,
        past=past,
        visits=history.visits,
        rhythm_days=history.rhythm_days,
        cosine_rows=cosines[:-3],
        cosine_session=cosines[-3],
        cosine_taste=cosines[-2],
        cosine_query=cosines[-1],
        bm25=_bm25(context, slots),
        offered=offered.take(slots),
    )


def _allowed(
    context: Context, policy: Policy, session: list[str], offered: NDArray[np.uint32]
) -> tuple[IntArray, IntArray]:
    """The slots of what is offered and not forbidden, and those of the session, which may fill up a list.

    Args:
        offered: [capacity], one bit for each of `OFFERS`; what is forbidden is taken out of it.
    """
    items = context.items
    offered[~items.available] = 0
    barred = [np.flatnonzero(bar.items).astype(np.int32) for bar in context.rules.bars]
    forbidden = np.concatenate([_slots(_forbidden(context, policy), items), *barred])
    offered[forbidden] = 0
    seen = _slots(session, items)
    fill = seen[offered[seen] > 0]
    fill_offered = offered[fill]
    offered[fill] = 0
    if context.rules.pins:
        pinned = _slots((pin.item_id for pin in context.rules.pins), items)
        pinned = np.setdiff1d(pinned[items.available[pinned]], forbidden)
        offered[pinned] |= 1 << OFFERS.index(PINNED)
    slots = np.flatnonzero(offered).astype(np.int32)
    if len(slots) < policy.list_length and len(fill):
        offered[fill] = fill_offered
        slots = np.flatnonzero(offered).astype(np.int32)
    if len(slots) < policy.list_length:
        more = _range(items, offered, forbidden, policy.list_length - len(slots))
        offered[more] = 1 << OFFERS.index(RANGE)
        slots = np.flatnonzero(offered).astype(np.int32)
    return slots, fill


def _range(items: ItemTable, offered: NDArray[np.uint32], forbidden: IntArray, limit: int) -> IntArray:
    """The newest items that nothing else offered, for a shop or a shopper of which too little is known."""
    free = items.available & (offered == 0)
    free[forbidden] = False
    slots = np.flatnonzero(free).astype(np.int32)
    newest: IntArray = slots[np.argsort(-items.first_seen_ms[slots], kind="stable")[:limit]]
    return newest


def _forbidden(context: Context, policy: Policy) -> set[str]:
    return _bought_lately(context, policy) | cart_of(context.state) | context.in_view


def _bought_lately(context: Context, policy: Policy) -> set[str]:
    rules, items, days = context.rules, context.items, policy.exclude_bought_days
    newest_first = reversed(context.state.owned)
    if not rules.cycles:
        since = context.at_ms - days * DAY_MS
        return {owned.item_id for owned in takewhile(lambda owned: owned.at_ms > since, newest_first)}
    return {
        owned.item_id
        for owned in newest_first
        if context.at_ms - owned.at_ms
        < DAY_MS * rules.days_until_again(items.get(owned.item_id), default=days)
    }


def _cosines(context: Context, session: list[int | None], slots: IntArray) -> FloatArray:
    """Cosines [len(session) + 3, N]: by session item, then with the session, taste and query vectors."""
    vectors = context.space.vectors
    sides = np.zeros((len(session) + 3, DIMENSIONS), np.float32)
    for side, slot in enumerate(session):
        if slot is not None:
            sides[side] = vectors[slot]
    whole = (context.session_vector, context.taste_vector, context.query_vector)
    for side, vector in enumerate(whole, start=len(session)):
        if vector is not None:
            sides[side] = vector
    cosines: FloatArray = sides @ vectors.take(slots, axis=0).T
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


def _hits(slots: IntArray, scores: FloatArray) -> Hits:
    return Hits(slots, scores[slots])


def _slots(item_ids: Iterable[str], items: ItemTable) -> IntArray:
    """The slots of those items that are known."""
    return np.array([slot for slot in items.slots(item_ids) if slot is not None], np.int32)
