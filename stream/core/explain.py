"""Why an item is in a list: the source that did most for it, and a sentence a shopper could read.

What a source did is read off the linear weights (`stream.core.blend`): the sum, over the features it
feeds, of the weight times how far the item is from the mean of its list's candidates. A source that has
nothing to show for the item is never named, so every reason is true.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from stream.core import blend
from stream.core.candidates import BACKWARD, RECENCY, Candidates, Context
from stream.core.events import EVENT_TYPES
from stream.core.items import BoolArray, FloatArray
from stream.core.ranking import FEATURES, features, query_score, standardised
from stream.core.state import ADD_TO_CART, PURCHASE

TITLE_CHARS = 60

SOURCES = {
    "search": (),
    "covisited": (
        "covisit_log",
        "covisit_ratio",
        "next_log",
        "next_ratio",
        "forward_log",
        "forward_ratio",
        "backward_log",
        "backward_ratio",
        "lift_log",
        "support",
    ),
    "profile": ("profile_log", "profile_ratio"),
    "history": (
        "bought",
        "bought_age",
        "touched_age",
        "touches",
        "transition_log",
        "transition_ratio",
    ),
    "similar": ("similarity_last", "similarity_best", "similarity_session"),
    "taste": ("similarity_taste",),
    "trending": ("popularity_1", "popularity_10", "popularity_30", "popularity_120", "trend"),
    "new": (),
    "session": (),
    "range": (),
}
"""The values of `source`, each with the features it feeds; in this order where they did equally much."""

_columns = {source: [FEATURES.index(name) for name in names] for source, names in SOURCES.items()}
_computed: WeakKeyDictionary[Candidates, FloatArray] = WeakKeyDictionary()


def explain(context: Context, candidates: Candidates, position: int) -> tuple[str, str]:
    """Name the source that did most for a candidate, and say why in a sentence."""
    merits = _computed.get(candidates)
    if merits is None:
        merits = _computed[candidates] = _merits(context, candidates)
    source = list(SOURCES)[int(np.argmax(merits[:, position]))]
    return source, _reason(context, candidates, position, source)


def _merits(context: Context, candidates: Candidates) -> FloatArray:
    """What each source did for each candidate [len(SOURCES), N]; -inf where it has nothing to show."""
    table = standardised(features(context, candidates)) * blend.WEIGHTS
    table -= table.mean(axis=0)
    merits = np.stack([table[:, columns].sum(axis=1) for columns in _columns.values()])
    found = query_score(context, candidates)
    names = list(SOURCES)
    merits[names.index("search")] = found - found.mean()
    grounds = _grounds(context, candidates)
    for row, source in enumerate(names):
        merits[row, ~grounds[source]] = -np.inf
    # What is new or already seen is said only of what nothing else speaks for.
    last_resort = merits[: names.index("new")].max(axis=0) == -np.inf
    merits[names.index("new") :, ~last_resort] = -np.inf
    return merits


def _grounds(context: Context, candidates: Candidates) -> dict[str, BoolArray]:
    """For which candidates each source has something to show."""
    both = (candidates.forward > 0) | (candidates.backward > 0)
    known = np.array([item_id in context.items for item_id in candidates.row_items], np.bool_)
    both &= known[:, None]
    rows = candidates.session_rows
    unseen = ~candidates.seen
    return {
        "search": candidates.by("search") & (context.query is not None),
        "covisited": both[:rows].any(axis=0) & unseen,
        "profile": both[rows:].any(axis=0) & unseen,
        "history": (candidates.touched_ms > 0) & unseen,
        "similar": (candidates.cosine_rows > 0).any(axis=0) & unseen,
        "taste": (candidates.cosine_taste > 0) & unseen,
        "trending": candidates.by("trending") | candidates.by("trending_in_category"),
        "new": candidates.by("new"),
        "session": candidates.seen,
        "range": np.ones(len(candidates), np.bool_),
    }


def _reason(context: Context, candidates: Candidates, position: int, source: str) -> str:
    rows = candidates.session_rows
    if source == "search" and context.query is not None:
        return f"matches your search for {_short(context.query.query)}"
    if source == "covisited":
        weights = _covisits(context, candidates, position)[:rows] * RECENCY ** np.arange(rows)
        return f"because you {_did(context, candidates.row_items[int(np.argmax(weights))])}"
    if source == "profile":
        weights = _covisits(context, candidates, position)[rows:]
        return f"because you {_did(context, candidates.row_items[rows + int(np.argmax(weights))])} before"
    if source == "history":
        return "you bought it before" if candidates.bought_ms[position] else "you looked at it before"
    if source == "similar":
        nearest = candidates.row_items[int(np.argmax(candidates.cosine_rows[:, position]))]
        return f"similar to {_title(context, nearest)}"
    if source == "taste":
        return "similar to what you looked at before"
    if source == "trending":
        if candidates.by("trending")[position]:
            return "popular right now"
        item = context.items.at(int(candidates.slots[position]))
        return f"popular in {_short(item.category)}"
    if source == "new":
        return "new in the shop"
    if source == "range":
        return "from our range"
    return "you looked at it a moment ago"


def _covisits(context: Context, candidates: Candidates, position: int) -> FloatArray:
    """How strongly each row pulls a candidate, rows of unknown items not at all."""
    weights: FloatArray = candidates.forward[:, position] + BACKWARD * candidates.backward[:, position]
    return weights * [item_id in context.items for item_id in candidates.row_items]


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
    return _short(item.title) if item is not None else item_id


def _short(text: str) -> str:
    return text if len(text) <= TITLE_CHARS else text[: TITLE_CHARS - 1].rstrip() + "…"
