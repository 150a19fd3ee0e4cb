"""Why an item is in a list: the source that did most for it, and a sentence a shopper could read.

What a source did is read off the linear weights (`stream.core.blend`): the sum, over the features it
feeds, of the weight times how far the item is from the mean of its list's candidates. A source that has
nothing to show for the item is never named, so every reason is true.

Of 1,800 reasons that named an event, in 601 lists of Online Retail II (June 2011, what was learnt since
April, linear weights), .984 [.978, .990] held: without the event the item's score was lower, or it left the
list. With another of the shopper's items thought away it was .41 (`streamrec evaluate fidelity`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core import blend
from stream.core.candidates import RANGE, Candidates
from stream.core.context import SESSION_RECENCY, Context
from stream.core.evidence import BACKWARD, RECENCY, RECENCY_BY_AGE, SESSION_RECENCY_BY_AGE, SHRINK
from stream.core.features import GROUPS
from stream.core.items import FloatArray
from stream.core.ranking import FEATURES, features, query_score, standardised
from stream.core.sources import SOURCES
from stream.core.sources.similar import CLOSE_TO_ITEM
from stream.core.sources.source import Grounds, Say
from stream.core.state import UserState

UNLIKE = 0.3
"""The cross-encoder's score of an item's title and another's text below which they are not called similar.

Of PriceRunner offers whose titles the encoder finds close (cosine from `CLOSE_TO_ITEM`), 1 % of those of one
product score less, and more than a quarter of those of two. It knows the same product; a like one of the
same category it does not tell from one of another. So it takes claims away and never makes one, nor an order.
"""

PAIRS_OF_ITEM = 10
"""Neighbours of the item in view that the cross-encoder reads when there is nothing else to do."""

_BESIDE_SOURCES = {
    "session": Say(
        lambda grounds: grounds.candidates.seen,
        lambda context, candidates, position, item_id: "you looked at it a moment ago",
        itself=True,
        last_resort=True,
    ),
    RANGE: Say(
        lambda grounds: np.ones(len(grounds.candidates), np.bool_),
        lambda context, candidates, position, item_id: "from our range",
        last_resort=True,
    ),
}
_said = {source.name: source.say for source in SOURCES if source.say is not None} | _BESIDE_SOURCES
SAYS = dict(sorted(_said.items(), key=lambda named: named[1].last_resort))
"""Who can be named as the `source` of an item, in this order where they did equally much."""
FED = {
    cause: tuple(
        name
        for group in GROUPS
        if group.merit is not None and (group.merit.cause or group.merit.name) == cause
        for name in group.names
    )
    for cause in SAYS
}
"""The features that each feeds."""

_FLOOR = np.float32(1e-4)
"""As in the features: so little of a sum counts as nothing."""
_FADES = np.array([RECENCY, SESSION_RECENCY], np.float32)[:, None, None]
_FADES_BY_AGE = np.stack([RECENCY_BY_AGE, SESSION_RECENCY_BY_AGE])[:, :, None]
_names = tuple(SAYS)
_last_resorts = sum(not say.last_resort for say in SAYS.values())
_weights = np.array(
    [
        [weight if feature in fed else 0.0 for fed in FED.values()]
        for feature, weight in zip(FEATURES, blend.WEIGHTS, strict=True)
    ],
    np.float32,
)


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


def cause(context: Context, candidates: Candidates, position: int) -> Cause:
    """Name what did most for a candidate."""
    return causes(context, candidates, [position])[0]


def causes(context: Context, candidates: Candidates, positions: Sequence[int]) -> list[Cause]:
    """Name what did most for each of some candidates, such as those that are listed."""
    if not len(positions):
        return []
    at = np.array(positions, np.intp)
    listed = candidates.only(at)
    grounds = Grounds(context, listed, _carried(context, listed), _likeness(context, listed), ~listed.seen)
    merits = _merits(context, candidates).take(at, axis=1)
    for merit, say in zip(merits, SAYS.values(), strict=True):
        merit[~say.shown(grounds)] = -np.inf
    named = merits[:_last_resorts].max(axis=0) > -np.inf
    merits[_last_resorts:, named] = -np.inf
    rows = {name: say.row(grounds).tolist() for name, say in SAYS.items() if say.row is not None}
    found = []
    for place, number in enumerate(merits.argmax(axis=0).tolist()):
        source = _names[number]
        say, item_id = SAYS[source], ""
        if say.row is not None:
            item_id = candidates.row_items[rows[source][place]]
        elif say.itself:
            item_id = context.items.at(int(listed.slots[place])).item_id
        found.append(Cause(source, say.reason(context, listed, place, item_id), item_id, say.search))
    return found


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
    if not len(candidates.row_items):
        return np.zeros(0, np.intp)
    cosines = candidates.cosine_rows[0]
    near = np.flatnonzero(candidates.by("similar") & ~candidates.seen & (cosines >= CLOSE_TO_ITEM))
    return near[np.argsort(-cosines[near], kind="stable")[:PAIRS_OF_ITEM]]


def _carried(context: Context, candidates: Candidates) -> FloatArray:
    """How much each row of the session [rows, N] carries of a candidate's co-visitation, by thinking it away.

    What is lost of the logarithms of two sums that fade with age, in which older rows then count as younger:
    so a row may even stand in the way of others. -inf where a row says nothing of a candidate.
    """
    known = np.array([item_id in context.items for item_id in candidates.row_items], np.bool_)
    pulls = candidates.forward + np.float32(BACKWARD) * candidates.backward
    pulls[~known] = 0.0
    scale = 1.0 / np.sqrt(candidates.row_popularity[:, None] + np.float32(SHRINK))
    faded = np.stack([pulls, candidates.forward]) * scale
    faded *= _FADES_BY_AGE[:, : len(known)]
    up_to = np.cumsum(faded, axis=1)
    whole = up_to[:, -1:]
    without = up_to - faded + (whole - up_to) / _FADES
    lost = np.log(whole + _FLOOR) - np.log(np.maximum(without, 0.0) + _FLOOR)
    carried: FloatArray = lost[0] + lost[1]
    carried[pulls <= 0] = -np.inf
    return carried


def _merits(context: Context, candidates: Candidates) -> FloatArray:
    """What each source did for each candidate [len(SAYS), N]."""
    merits: FloatArray = (standardised(features(context, candidates)) @ _weights).T
    merits[_names.index("search")] = query_score(context, candidates)
    merits -= merits.mean(axis=1, keepdims=True)
    return merits


def _likeness(context: Context, candidates: Candidates) -> FloatArray:
    """Cosines with the session's items, 0 where the cross-encoder found the newest one unlike."""
    if not len(context.unlike) or not len(candidates.row_items):
        return candidates.cosine_rows
    likeness = candidates.cosine_rows.copy()
    likeness[0, np.isin(candidates.slots, context.unlike)] = 0.0
    return likeness
