"""From scored candidates to the list that goes out, in the one place that all lists pass.

Scores, then diversity, then exploration, then the rules on the very list: what comes later has the last
word.
"""

from __future__ import annotations

from typing import NamedTuple

from stream.core import ranking
from stream.core.candidates import Candidates, Context
from stream.core.items import BoolArray, FloatArray
from stream.core.policy import Policy
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
    """
    chosen = [
        Chosen(position, score)
        for position, score in ranking.select(context, candidates, scores, policy)
        if stays is None or stays[position]
    ]
    return Composed(chosen, [])
