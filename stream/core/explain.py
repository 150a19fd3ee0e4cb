"""Why an item is in a list: the source that did most for it, and a sentence a shopper could read.

What a source did is read off the linear weights (`stream.core.blend`): the sum, over the features it
feeds, of the weight times how far the item is from the mean of its list's candidates. A source that has
nothing to show for the item is never named, so every reason is true.

Of 1,800 reasons that named an event, in 601 lists of Online Retail II (June 2011, what was learnt since
April, linear weights), .984 [.978, .990] held: without the event the item's score was lower, or it left the
list. With another of the shopper's items thought away it was .41 (`streamrec evaluate fidelity`).
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from stream.core import blend
from stream.core.candidates import OFFERS, RANGE, Candidates
from stream.core.context import SESSION_RECENCY, Context
from stream.core.events import EVENT_TYPES
from stream.core.evidence import BACKWARD, RECENCY, SHRINK
from stream.core.features import GROUPS
from stream.core.items import BoolArray, FloatArray
from stream.core.ranking import FEATURES, features, query_score, standardised
from stream.core.state import ADD_TO_CART, PURCHASE, UserState

TITLE_CHARS = 60

CLOSE_TO_QUERY = 0.3
"""The cosine from which an item without a word of the query is called close to it.

Of random products of the Icecat catalogue 95 % lie below .25 to a query; of the ones judged most relevant
95 % lie above .34 (version 2 of the encoder, 92 queries).
"""
CLOSE_TO_ITEM = 0.43
"""The cosine from which two items are called similar.

95 % of random pairs lie below .43 in the gift shop of Online Retail II and below .38 in the Icecat catalogue.
"""

UNLIKE = 0.3
"""The cross-encoder's score of an item's title and another's text below which they are not called similar.

Of PriceRunner offers whose titles the encoder finds close (cosine from `CLOSE_TO_ITEM`), 1 % of those of one
product score less, and more than a quarter of those of two. It knows the same product; a like one of the
same category it does not tell from one of another. So it takes claims away and never makes one, nor an order.
"""

PAIRS_OF_ITEM = 10
"""Neighbours of the item in view that the cross-encoder reads when there is nothing else to do."""

_CAUSES = ("search", "covisited", "profile", "history", "similar", "taste", "trending")
_LAST_RESORTS = ("new", "session", RANGE)
"""Named only where none of the others has anything to show."""
SOURCES = {
    cause: tuple(
        name
        for group in GROUPS
        if group.merit is not None and (group.merit.cause or group.merit.name) == cause
        for name in group.names
    )
    for cause in _CAUSES + _LAST_RESORTS
}
"""The values of `source`, each with the features it feeds; in this order where they did equally much."""

_FLOOR = np.float32(1e-4)
"""As in the features: so little of a sum counts as nothing."""
_names = tuple(SOURCES)
_trending = 1 << OFFERS.index("trending")
_last_resorts = len(_CAUSES)
_weights = np.array(
    [
        [weight if feature in fed else 0.0 for fed in SOURCES.values()]
        for feature, weight in zip(FEATURES, blend.WEIGHTS, strict=True)
    ],
    np.float32,
)


class _Causes(NamedTuple):
    """For each candidate: the source that did most for it, and the rows that pull it most."""

    source: list[int]
    covisited: list[int]
    profile: list[int]
    similar: list[int]


_computed: WeakKeyDictionary[Candidates, _Causes] = WeakKeyDictionary()


class Cause(NamedTuple):
    """The source that did most for a candidate, why in a sentence, and what the sentence names.

    `item_id` is the item of which it names what the shopper did, "" where it names none; `search` says that
    it names the shopper's search.
    """

    source: str
    reason: str
    item_id: str = ""
    search: bool = False

    @property
    def names_event(self) -> bool:
        """Whether something that the shopper did is named, so that it can be thought away."""
        return bool(self.item_id) or self.search


def explain(context: Context, candidates: Candidates, position: int) -> tuple[str, str]:
    """Name the source that did most for a candidate, and say why in a sentence."""
    found = cause(context, candidates, position)
    return found.source, found.reason


def cause(context: Context, candidates: Candidates, position: int) -> Cause:
    """Name what did most for a candidate."""
    causes = _computed.get(candidates)
    if causes is None:
        causes = _computed[candidates] = _causes(context, candidates)
    source = _names[causes.source[position]]
    item_id = ""
    if source in ("covisited", "profile", "similar"):
        item_id = candidates.row_items[getattr(causes, source)[position]]
    elif source in ("history", "session"):
        item_id = context.items.at(int(candidates.slots[position])).item_id
    reason = _reason(context, candidates, position, source, item_id)
    return Cause(source, reason, item_id, source == "search")


def without(state: UserState, named: Cause) -> UserState:
    """Think away what a reason names: all that was done to its item, or the newest search."""
    if named.search:
        state = state._replace(searches=state.searches[:-1])
    if not named.item_id:
        return state
    return state._replace(
        interactions=tuple(one for one in state.interactions if one.item_id != named.item_id),
        owned=tuple(one for one in state.owned if one.item_id != named.item_id),
    )


def claims(candidates: Candidates) -> NDArray[np.intp]:
    """The positions of what might be called similar to the session's newest item, nearest first.

    The cross-encoder may know better, see `Context.unlike`.
    """
    if not candidates.session_rows:
        return np.zeros(0, np.intp)
    cosines = candidates.cosine_rows[0]
    near = np.flatnonzero(candidates.by("similar") & ~candidates.seen & (cosines >= CLOSE_TO_ITEM))
    return near[np.argsort(-cosines[near], kind="stable")[:PAIRS_OF_ITEM]]


def _causes(context: Context, candidates: Candidates) -> _Causes:
    rows = candidates.session_rows
    known = np.array([item_id in context.items for item_id in candidates.row_items], np.bool_)
    pulls = candidates.forward + np.float32(BACKWARD) * candidates.backward
    pulls[~known] = 0.0
    carried = _carried(candidates, pulls)
    merits = _merits(context, candidates)
    for merit, shown in zip(merits, _grounds(context, candidates, pulls, carried), strict=True):
        merit[~shown] = -np.inf
    named = merits[:_last_resorts].max(axis=0) > -np.inf
    merits[_last_resorts:, named] = -np.inf
    return _Causes(
        source=merits.argmax(axis=0).tolist(),
        covisited=carried.argmax(axis=0).tolist() if rows else [],
        profile=(pulls[rows:].argmax(axis=0) + rows).tolist() if len(pulls) > rows else [],
        similar=_likeness(context, candidates).argmax(axis=0).tolist() if rows else [],
    )


def _carried(candidates: Candidates, pulls: FloatArray) -> FloatArray:
    """How much each row of the session [rows, N] carries of a candidate's co-visitation, by thinking it away.

    What is lost of the logarithms of the sums that fade with age, in which older rows then count as younger:
    so a row may even stand in the way of others. -inf where a row says nothing of a candidate.
    """
    rows = candidates.session_rows
    scale = 1.0 / np.sqrt(candidates.row_popularity[:rows, None] + np.float32(SHRINK))
    carried = _lost(pulls[:rows] * scale, RECENCY) + _lost(candidates.forward[:rows] * scale, SESSION_RECENCY)
    carried[pulls[:rows] <= 0] = -np.inf
    return carried


def _lost(weights: FloatArray, fade: float) -> FloatArray:
    """What the logarithm of the sum of rows [rows, N], fading with age, loses without each of them."""
    faded = np.float32(fade) ** np.arange(len(weights), dtype=np.float32)[:, None] * weights
    up_to = np.cumsum(faded, axis=0)
    without = up_to - faded + (faded.sum(axis=0) - up_to) / np.float32(fade)
    lost: FloatArray = np.log(faded.sum(axis=0) + _FLOOR) - np.log(np.maximum(without, 0.0) + _FLOOR)
    return lost


def _merits(context: Context, candidates: Candidates) -> FloatArray:
    """What each source did for each candidate [len(SOURCES), N]."""
    merits: FloatArray = (standardised(features(context, candidates)) @ _weights).T
    merits[_names.index("search")] = query_score(context, candidates)
    merits -= merits.mean(axis=1, keepdims=True)
    return merits


def _grounds(
    context: Context, candidates: Candidates, pulls: FloatArray, carried: FloatArray
) -> list[BoolArray]:
    """For which candidates each of `SOURCES` has something to show."""
    rows = candidates.session_rows
    unseen = ~candidates.seen
    grounds = {
        "search": candidates.by("search")
        & (context.query is not None)
        & ((candidates.bm25 > 0) | (candidates.cosine_query >= CLOSE_TO_QUERY)),
        "covisited": (carried > 0).any(axis=0) & unseen,
        "profile": (pulls[rows:] > 0).any(axis=0) & unseen,
        "history": (candidates.touched_ms > 0) & unseen,
        "similar": (_likeness(context, candidates) >= CLOSE_TO_ITEM).any(axis=0) & unseen,
        "taste": (candidates.cosine_taste >= CLOSE_TO_ITEM) & unseen,
        "trending": candidates.by("trending") | candidates.by("trending_in_category"),
        "new": candidates.by("new"),
        "session": candidates.seen,
        "range": np.ones(len(candidates), np.bool_),
    }
    return [grounds[source] for source in _names]


def _likeness(context: Context, candidates: Candidates) -> FloatArray:
    """Cosines with the session's items, 0 where the cross-encoder found the newest one unlike."""
    if not len(context.unlike) or not candidates.session_rows:
        return candidates.cosine_rows
    likeness = candidates.cosine_rows.copy()
    likeness[0, np.isin(candidates.slots, context.unlike)] = 0.0
    return likeness


def _reason(context: Context, candidates: Candidates, position: int, source: str, item_id: str) -> str:
    if source == "search" and context.query is not None:
        verb = "matches" if candidates.bm25[position] > 0 else "close to"
        return f"{verb} your search for {short(context.query.query)}"
    if source == "covisited":
        return f"because you {_did(context, item_id)}"
    if source == "profile":
        return f"because you {_did(context, item_id)} before"
    if source == "history":
        return "you bought it before" if candidates.bought_ms[position] else "you looked at it before"
    if source == "similar":
        return f"similar to {_title(context, item_id)}"
    if source == "taste":
        return "similar to what you looked at before"
    if source == "trending":
        if candidates.offered[position] & _trending:
            return "popular right now"
        item = context.items.at(int(candidates.slots[position]))
        return f"popular in {short(item.category)}"
    if source == "new":
        return "new in the shop"
    if source == "range":
        return "from our range"
    return "you looked at it a moment ago"


def _did(context: Context, item_id: str) -> str:
    """What the shopper last did to an item, such as "viewed RED MUG"."""
    title = _title(context, item_id)
    for interaction in reversed(context.state.interactions):
        if interaction.item_id == item_id:
            if interaction.kind == PURCHASE:
                return f"bought {title}"
            if interaction.kind == ADD_TO_CART:
                return f"put {title} in your cart"
            if EVENT_TYPES[interaction.kind] == "remove_from_cart":
                return f"had {title} in your cart"
            break
    return f"viewed {title}"


def _title(context: Context, item_id: str) -> str:
    item = context.items.get(item_id)
    return short(item.title) if item is not None else item_id


def short(text: str) -> str:
    """Cut a text to what a reason has room for."""
    return text if len(text) <= TITLE_CHARS else text[: TITLE_CHARS - 1].rstrip() + "…"
