"""The shop's own results of a search, put in order by what was searched for and by who searches.

The score of a result is log p(item | shopper, query) up to a constant, where query and shopper are
independent given the item: log p(query | item), which is the relevance, plus log p(item | shopper) minus
log p(item). What a model gives a candidate is log p(item | shopper) up to a constant
(`stream.core.ranking`), so the last two are the difference of its scores for this shopper and for one of
whom nothing is known: the taste. For a shopper without a history it is zero everywhere, and what is
popular with all alike does not count, since the shop named these results as answers already.

Measured by `model-factory evaluate personal-search` on the Icecat judgements, with made-up shoppers who
viewed three products (nDCG@10 against relevance alone, 95 % intervals of the paired difference over
searches): nothing viewed .000 exactly; products of other searches -.003 [-.009, .004]; other relevant
products of the search +.044 [.018, .080]; products of the brand that the best have +.020 [.007, .036];
products that are not relevant -.022 [-.036, -.008], which is what believing a shopper costs where the
shopper is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.candidates import Candidates
from stream.core.context import Context
from stream.core.explain import causes
from stream.core.items import BoolArray, FloatArray, IntArray, ItemTable
from stream.core.ranking import QUERY_SCALE
from stream.core.search import best_matches, match, refined, regularised
from stream.core.sources.search import CLOSE_TO_QUERY
from stream.core.state import UserState, empty
from stream.core.wording import short

PLACEMENT = "search"
"""What a list of results is for, where the search names no placement."""

LEXICAL = 1_000
"""How many items that match the words are asked for, to find the shop's results among them."""

PERSONAL = ("covisited", "history", "similar", "taste")
"""Sources of `stream.core.explain` that tell of the shopper, not of the shop."""


class Place(NamedTuple):
    """One result in its new place. `position` in the candidates, None where there is nothing to rank."""

    item_id: str
    score: float
    position: int | None


def slots_of(result_item_ids: Sequence[str], items: ItemTable) -> IntArray:
    """The slots of those results that are in the catalogue."""
    known = (items.slot(item_id) for item_id in result_item_ids)
    return np.array([slot for slot in known if slot is not None], np.int32)


def without_shopper(context: Context) -> Context:
    """The same list for a shopper of whom nothing is known."""
    return replace(
        context,
        state=empty(context.state.user_id),
        rows={},
        in_view=frozenset(),
        session_vector=None,
        taste_vector=None,
    )


def is_stranger(state: UserState) -> bool:
    """Whether nothing is known of a shopper's taste, so that it need not be asked for."""
    return not state.interactions and not state.owned


def matches(context: Context, found: Candidates) -> FloatArray:
    """How well each result [N] matches the search, by words and by vectors; see `stream.core.search`."""
    return regularised(match(found.cosine_query, found.bm25), context.space.vectors[found.slots])


def to_read(of_matches: FloatArray, limit: int) -> NDArray[np.intp]:
    """The positions of the best matches, which the cross-encoder is asked to read."""
    return best_matches(of_matches, limit)


def relevance(of_matches: FloatArray, read: NDArray[np.intp], scores: FloatArray) -> FloatArray:
    """What the search says of each result [N], in logits.

    Args:
        read: positions that the cross-encoder scored; `scores` are theirs, 0..1.
    """
    logits: FloatArray = np.float32(QUERY_SCALE) * refined(of_matches, read, scores)
    return logits


def taste(of_shopper: FloatArray, of_nobody: FloatArray) -> FloatArray:
    """What the shopper's history says of each result [N], in logits; 0 where a score is not finite."""
    with np.errstate(invalid="ignore"):
        difference: FloatArray = of_shopper - of_nobody
    return np.where(np.isfinite(difference), difference, np.float32(0.0))


def ordered(
    result_item_ids: Sequence[str], items: ItemTable, found: Candidates, scores: FloatArray, stays: BoolArray
) -> list[Place]:
    """Put results in order: exactly those, each once.

    By falling score, equal ones as the shop had them. An item that is not in the catalogue keeps its place
    among those that can be had, and what cannot be had comes last, in the shop's order. Scores never grow
    along the list: an item without one has that of its neighbour.

    Args:
        result_item_ids: in the shop's order, none twice.
        scores: of the candidates [N].
        stays: which candidates [N] can be had.
    """
    position_of = {int(slot): position for position, slot in enumerate(found.slots.tolist())}
    scores = np.asarray(scores, np.float64)
    finite = np.isfinite(scores)
    scores = np.where(finite, scores, scores[finite].min(initial=0.0) - 1.0)
    had: list[tuple[str, int | None]] = []
    gone: list[str] = []
    for item_id in result_item_ids:
        slot = items.slot(item_id)
        position = None if slot is None else position_of.get(slot)
        if position is not None and not stays[position]:
            gone.append(item_id)
        else:
            had.append((item_id, position))
    ranked = iter(sorted((one for one in had if one[1] is not None), key=lambda one: -scores[one[1] or 0]))
    in_order = [next(ranked) if position is not None else (item_id, None) for item_id, position in had]
    best = float(scores.max(initial=0.0)) if len(scores) else 0.0
    places: list[Place] = []
    for item_id, position in in_order:
        best = best if position is None else float(scores[position])
        places.append(Place(item_id, best, position))
    return places + [Place(item_id, best - 1.0, None) for item_id in gone]


def reasons(
    context: Context, found: Candidates, positions: Sequence[int], tastes: FloatArray
) -> dict[int, str]:
    """Say, by position, what results have to do with the search, and the shopper where that lifts them."""
    assert context.query is not None
    query = short(context.query.query)
    mean = tastes.mean() if len(tastes) else 0.0
    lifted = [position for position in positions if tastes[position] > mean]
    personal = dict(zip(lifted, causes(replace(context, query=None), found, lifted), strict=True))
    said: dict[int, str] = {}
    for position in positions:
        if found.bm25[position] > 0:
            said[position] = f"matches your search for {query}"
        elif found.cosine_query[position] >= CLOSE_TO_QUERY:
            said[position] = f"close to your search for {query}"
        else:
            said[position] = f"among the results for {query}"
        if position in personal and personal[position].source in PERSONAL:
            said[position] += f", {personal[position].reason}"
    return said


def reason_without_score(item_id: str, items: ItemTable) -> str:
    """Say of a result that was not ranked why not."""
    return "not to be had right now" if item_id in items else "among the shop's results"
