"""How an item came to its place in a list, or what kept it out: numbers that add up, and one stage by name.

A score is explained against a made-up candidate that has the mean of the list's candidates in every feature.
What each feature adds to the difference is its Shapley value. Of linear weights that is exactly the weight
times how far the feature is from its mean. Of a network it is estimated by walks: beginning at the mean
candidate, features take the item's values one after the other in a random order, and each is credited with
what its step did to the score (Štrumbelj and Kononenko, "Explaining prediction models and individual
predictions with feature contributions", Knowledge and Information Systems 41, 2014,
doi:10.1007/s10115-013-0679-x; Castro, Gómez and Tejada, Computers & Operations Research 36, 2009). Every
walk goes the whole way, so the values add up to the difference whatever their number; each is walked
backwards too, which takes out the noise of features that act in pairs. Walks need nothing of a model but
its scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core import blend, ranking
from stream.core.candidates import OFFERS, Candidates
from stream.core.context import Context
from stream.core.features import FEATURES
from stream.core.items import BoolArray, FloatArray
from stream.core.listing import Composed, compose
from stream.core.policy import DAY_MS, Policy
from stream.core.rules.in_force import InForce
from stream.core.state import cart_of

WALKS = 32
"""Orders of the features that are walked, half of them the others backwards."""
TOLERANCE = 1e-3
"""How far a sum of contributions may be from the difference it explains: rounding of single precision."""


class Contribution(msgspec.Struct, frozen=True):
    """What one part adds to a score beside the mean candidate's; `value` and `mean` are a feature's."""

    name: str
    by: float
    value: float | None = None
    mean: float | None = None


class Score(msgspec.Struct, frozen=True):
    """An item's score taken apart: `mean_score` and all of `contributions` add up to `score`."""

    score: float
    mean_score: float
    contributions: list[Contribution]
    exact: bool
    """Whether the contributions are exact, or estimated by walks; they add up in both cases."""


class Fate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of an item: `stage` for programs, `said` for people."""

    stage: str
    """`listed`, or what kept it out: `unknown`, `unavailable`, `held_back`, `in_view`, `in_cart`, `bought`,
    `rule`, `no_source`, `seen`, `exploration`, `diversity`, `cap`, `pin`, `score`."""
    said: str
    """The same as a sentence."""
    rank: int | None = None
    """Its place among all candidates by score, from 1."""
    of: int | None = None
    """How many candidates there were."""
    missing: float | None = None
    """What its score lacks to that of the list's last item."""
    rule: str = ""
    """The rule that kept it out."""


class Walks(NamedTuple):
    """Made-up candidates to be scored, and in which order each walk took the features."""

    rows: FloatArray
    orders: NDArray[np.intp]


def walks(table: FloatArray, position: int, count: int = WALKS, seed: int = 0) -> Walks:
    """Lay out walks from the mean of a table [N, F] to one of its rows: rows [count * (F + 1), F]."""
    width = table.shape[1]
    random = np.random.default_rng(seed)
    ahead = [random.permutation(width) for _ in range((count + 1) // 2)]
    orders = np.array([order for one in ahead for order in (one, one[::-1])])
    start, goal = table.mean(axis=0), table[position]
    step_of = np.argsort(orders, axis=1)  # when each walk takes each feature
    taken = step_of[:, None, :] < np.arange(width + 1)[None, :, None]
    rows: FloatArray = np.where(taken, goal, start).astype(np.float32)
    return Walks(rows.reshape(-1, width), orders)


def credited(scores: FloatArray, of: Walks) -> tuple[FloatArray, float]:
    """What each feature [F] did on the mean of the walks, and the score that they began with."""
    count, width = of.orders.shape
    path = np.asarray(scores, np.float64).reshape(count, width + 1)
    steps = np.zeros((count, width))
    np.put_along_axis(steps, of.orders, np.diff(path, axis=1), axis=1)
    values: FloatArray = steps.mean(axis=0).astype(np.float32)
    return values, float(path[:, 0].mean())


def weighed(context: Context, candidates: Candidates, position: int) -> tuple[FloatArray, float]:
    """What each feature [F] adds by the linear weights, exactly, and the mean candidate's score."""
    scaled = ranking.standardised(ranking.features(context, candidates))
    mean = scaled.mean(axis=0)
    return (scaled[position] - mean) * blend.WEIGHTS, float(mean @ blend.WEIGHTS)


def taken_apart(
    context: Context,
    candidates: Candidates,
    position: int,
    by_feature: FloatArray,
    mean_score: float,
    rules: InForce,
    *,
    exact: bool,
) -> Score:
    """Add up what made a final score: features, the search, rules, and the order of tiers.

    Args:
        by_feature: what each of `FEATURES` adds.
        mean_score: of the mean candidate, by the model.
    """
    table = ranking.features(context, candidates)
    means = table.mean(axis=0)
    parts = [
        Contribution(name, float(by), float(value), float(mean))
        for name, by, value, mean in zip(FEATURES, by_feature, table[position], means, strict=True)
    ]
    search = ranking.query_score(context, candidates)
    search_mean = float(search.mean())
    if context.query is not None:
        parts.append(Contribution("search", float(search[position]) - search_mean))
    slot = int(candidates.slots[position])
    parts += [Contribution(rule, by) for rule, by in rules.pushes_on(slot).items()]
    total = mean_score + search_mean + sum(part.by for part in parts)
    parts.sort(key=lambda part: -abs(part.by))
    return Score(total, mean_score + search_mean, parts, exact)


def finals(context: Context, candidates: Candidates, scores: FloatArray) -> NDArray[np.float64]:
    """What each candidate [N] counts when the list is chosen: with the search, with rules, and by tier."""
    return ranking.final_scores(context, candidates, scores + context.rules.pushed(candidates.slots))


def sources_of(candidates: Candidates, position: int) -> list[str]:
    """The names of all sources that named a candidate."""
    offered = int(candidates.offered[position])
    return [offer for place, offer in enumerate(OFFERS) if offered >> place & 1]


def fate(
    context: Context,
    candidates: Candidates,
    scores: FloatArray,
    policy: Policy,
    seed: int,
    stays: BoolArray | None,
    item_id: str,
) -> Fate:
    """Say what became of an item, by the first stage that lost it.

    Stages after the score are found out by leaving them out: the one without which the item would be in
    the list is the one that lost it.

    Args:
        scores, seed, stays: as the list was composed by.
    """
    items, rules = context.items, context.rules
    slot, item = items.slot(item_id), items.get(item_id)
    if slot is None or item is None:
        return Fate("unknown", "it is not in the catalogue")
    if items.held_back(item):
        found = ", ".join(item.quality_findings) or "no finding"
        return Fate("held_back", f"its text is of quality {item.quality:.2f} and held back: {found}")
    if not items.available[slot]:
        return Fate("unavailable", "the shop does not sell it now")
    places = np.flatnonzero(candidates.slots == slot)
    if not len(places):
        return _not_a_candidate(context, policy, slot, item_id)
    position = int(places[0])
    final = finals(context, candidates, scores)
    rank, of = int((final > final[position]).sum()) + 1, len(candidates)
    if rule := rules.barred_by(slot):
        return Fate("rule", f"the rule {rule} keeps it out", rank, of, rule=rule)
    made = compose(context, candidates, scores, policy, rules, seed, stays)
    listed = {one.position: one for one in made.chosen}
    if position in listed:
        return Fate("listed", f"it is in the list, {rank}. of {of} candidates by score", rank, of)
    least = min((one.score for one in made.chosen if not one.explored and not one.rule), default=0.0)
    missing = max(0.0, least - float(final[position]))
    if candidates.seen[position]:
        return Fate("seen", "the shopper has just seen it", rank, of, missing)
    for stage, said, changed_policy, changed_rules in _left_out(policy, rules):
        without = compose(context, candidates, scores, changed_policy, changed_rules, seed, stays)
        if any(one.position == position for one in without.chosen):
            rule = _cap_of(rules, policy, context, slot, made, candidates) if stage == "cap" else ""
            return Fate(stage, f"{said}{f' {rule}' if rule else ''} took its place", rank, of, rule=rule)
    said = f"its score is the {rank}. of {of} candidates, {missing:.3f} below the last one in the list"
    return Fate("score", said, rank, of, missing)


def _not_a_candidate(context: Context, policy: Policy, slot: int, item_id: str) -> Fate:
    if item_id in context.in_view:
        return Fate("in_view", "the shopper is looking at it")
    if item_id in cart_of(context.state):
        return Fate("in_cart", "it is in the shopper's cart")
    if rule := context.rules.barred_by(slot):
        return Fate("rule", f"the rule {rule} keeps it out", rule=rule)
    for owned in context.state.owned:
        if owned.item_id == item_id:
            item = context.items.get(item_id)
            days = context.rules.days_until_again(item, default=policy.exclude_bought_days)
            ago = (context.at_ms - owned.at_ms) / DAY_MS
            if ago < days:
                return Fate("bought", f"bought {ago:.1f} days ago, shown again after {days:g}")
    return Fate("no_source", "no source named it: nothing that is known ties it to the shopper or the moment")


def _left_out(policy: Policy, rules: InForce) -> Sequence[tuple[str, str, Policy, InForce]]:
    """Each later stage with what the list is composed by without it."""
    calm = msgspec.structs.replace(policy.exploration, share=0.0)
    plain = msgspec.structs.replace(policy.diversity, strength=0.0)
    wide = msgspec.structs.replace(policy, max_per_category=policy.list_length)
    return [
        (
            "exploration",
            "an item that is tried out",
            msgspec.structs.replace(policy, exploration=calm),
            rules,
        ),
        (
            "diversity",
            "an item less like the others",
            msgspec.structs.replace(policy, diversity=plain),
            rules,
        ),
        ("pin", "an item that a rule pins", policy, rules._replace(pins=())),
        ("cap", "an item beyond the cap", wide, rules._replace(caps=())),
    ]


def _cap_of(
    rules: InForce, policy: Policy, context: Context, slot: int, made: Composed, candidates: Candidates
) -> str:
    """The cap that the list has reached for an item; that of the policy where no rule's is."""
    item = context.items.at(slot)
    for cap in rules.caps:
        listed = [context.items.at(int(candidates.slots[one.position])) for one in made.chosen]
        if cap.group(item) and sum(cap.group(one) == cap.group(item) for one in listed) >= cap.limit:
            return cap.id
    return "policy.max_per_category"
