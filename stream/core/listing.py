"""From scored candidates to the list that goes out, in the one place that all lists pass.

Scores with what rules add to them, then diversity, then exploration, then caps and pins on the very list:
what comes later has the last word.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stream.core import ranking
from stream.core.candidates import Candidates, Context
from stream.core.items import BoolArray, FloatArray
from stream.core.policy import Policy
from stream.core.rules.arrange import arrange, broken
from stream.core.rules.cap import Cap
from stream.core.rules.in_force import InForce


class Chosen(NamedTuple):
    """One place of a list: `position` in the candidates, its final score, and how it came there.

    `propensity` is the probability with which the item was put in this place, 1 where nothing was left to
    chance; `explored` says that chance was asked; `rule` names the rule that put it there.
    """

    position: int
    score: float
    propensity: float = 1.0
    explored: bool = False
    rule: str = ""


class Composed(NamedTuple):
    """A list, best first, and what of the rules could not be kept, as sentences that name the rule."""

    chosen: list[Chosen]
    warnings: list[str]


def compose(
    context: Context,
    candidates: Candidates,
    scores: FloatArray,
    policy: Policy,
    rules: InForce,
    seed: int,
    stays: BoolArray | None = None,
) -> Composed:
    """Choose and order the list.

    Args:
        scores: of each candidate [N], by the reranker or blended.
        rules: those in force for this list.
        seed: what chance is drawn from; the same seed gives the same list.
        stays: which candidates [N] may still be shown; all where it is None.

    Scores never grow along the list, except for items that a rule has put at their place.
    """
    slots, items = candidates.slots, context.items
    final = ranking.final_scores(context, candidates, scores + rules.pushed(slots))
    may = ~rules.barred(slots) if stays is None else stays & ~rules.barred(slots)
    order = np.argsort(-final, kind="stable")
    order = order[may[order]]
    of_order = [items.at(slot) for slot in slots[order].tolist()]
    caps = (*rules.caps, category_cap(policy.max_per_category))

    def why_absent(item_id: str) -> str:
        slot = items.slot(item_id)
        if slot is None:
            return "it is not in the catalogue"
        if not items.available[slot]:
            return "it is not available"
        if bar := rules.barred_by(slot):
            return f"{bar} keeps it out"
        return "the shopper has it in view or in the cart, or bought it lately"

    arranged = arrange(of_order, rules.pins, caps, policy.list_length, why_absent)
    made = [of_order[place] for place in arranged.places]
    places = {item.item_id: place for place, item in enumerate(made, start=1)}
    held = {pin.id: pin for pin in rules.pins}
    pins = [(held[rule].item_id, held[rule].position) for rule in arranged.pinned.values()]
    wrong = broken(made, pins, caps)
    assert not wrong, wrong
    assert not rules.barred(slots[order[arranged.places]]).any()
    warnings = arranged.warnings
    if len(made) < policy.list_length:
        for bar in rules.bars:
            count = np.count_nonzero(bar.items & items.available[: len(bar.items)])
            if count:
                warnings.append(
                    f"{bar.rule}: leaves the list at {len(places)} of {policy.list_length} items, "
                    f"{count} products are kept out"
                )
    return Composed(
        [
            Chosen(int(order[place]), float(final[order[place]]), rule=arranged.pinned.get(place, ""))
            for place in arranged.places
        ],
        warnings,
    )


@lru_cache(maxsize=100)
def category_cap(limit: int) -> Cap:
    """The limit of `policy.max_per_category` as a rule."""
    return Cap(id="policy.max_per_category", by="category", limit=limit)


def recommendation_id(user_id: str, sequence: int) -> str:
    """An id that the same list always has and that does not show the shopper's."""
    return hashlib.blake2b(f"{sequence}:{user_id}".encode(), digest_size=12).hexdigest()
