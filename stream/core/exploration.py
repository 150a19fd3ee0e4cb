"""Give a few places of a list to items of which little is known, with known probabilities.

A list of L places with S slots shows its best L - S items as they are. Each slot has a regular item, the
next best, and a pool of its own: new items, or others that came after the list. With probability
`policy.share` the slot goes to an item of the pool instead, chosen by Thompson sampling: an item's rate of
clicks has a Beta posterior, `strength` times the logarithm of a draw from it (over the shop's mean rate)
is added to the item's score, and the greatest sum wins. (Thompson, "On the likelihood that one unknown
probability exceeds another in view of the evidence of two samples", Biometrika 1933; Chapelle, Li, "An
empirical evaluation of Thompson sampling", NeurIPS 2011.)

The probability with which each item of a pool wins is computed first, by one integral over a grid, and the
winner is drawn from these probabilities. So a list's propensities are exact for what is really drawn,
whatever the grid; a test shows that they are within .02 of those of an ideal Thompson sampler. Pools share no
item and slots are drawn independently, so nothing is conditional on another slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.items import BoolArray
from stream.core.policy import ExplorationPolicy

POOL = 16
"""Items that compete for a slot, the best by score."""
MEAN_RATE = 0.05
"""Clicks per showing that an item is expected to get before anything is known of it.

Where only touches are known and not showings, each touch is taken to have been worth 1 / `MEAN_RATE` of
them: the rate stays as expected, and grows the more certain.
"""
LEAST = 0.2
"""What is shared evenly among a pool, so that no propensity is near nothing."""
_GRID = 80
_LOWEST = np.log(MEAN_RATE) - 7.0
_STEP = -_LOWEST / _GRID
_LOG_RATES = _LOWEST + _STEP * (np.arange(_GRID) + 0.5)
_LOG_MISSES = np.log1p(-np.exp(_LOG_RATES))

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]


class Known(NamedTuple):
    """What is known of N candidates: `scores` are finite logarithms of probability, up to a constant.

    `clicks` are how often each was clicked, `shown` how often it was shown, at least as often; `new` says
    which are new.
    """

    scores: Floats
    clicks: Floats
    shown: Floats
    new: BoolArray


class Slot(NamedTuple):
    """A place of a list left to chance: `place` from 0, who stands there otherwise, who may be tried."""

    place: int
    regular: int
    pool: Positions


class Explored(NamedTuple):
    """The list's positions; of each place, the propensity and whether an item is tried there."""

    chosen: list[int]
    propensities: list[float]
    explored: list[bool]


def showings(touches: Floats) -> Floats:
    """The showings [n] that some touches, clicks or purchases are taken to have come from."""
    expected: Floats = touches / MEAN_RATE
    return expected


def slots(listed: Sequence[int], spare: Positions, new: BoolArray, policy: ExplorationPolicy) -> list[Slot]:
    """The places of a list that are left to chance, and what may stand there.

    Args:
        listed: positions of the list that is made without chance, best first.
        spare: positions of what may come in, best first; what must not be in the list is not among them.
        new: by position [N], whether the item is new.

    Returns:
        One slot for each whose pool holds an item, by place. The last of the list are their regular items.
    """
    length = len(listed)
    count = min(policy.slots, length - 1)
    if count < 1 or policy.share <= 0.0 or not len(spare):
        return []
    pools = {"new": spare[new[spare]], "uncertain": spare[~new[spare]]}
    kinds = [_kind(number, policy.kinds, pools) for number in range(count)]
    found = []
    for number, kind in enumerate(kinds):
        if kind is not None:  # dealt out like cards, so that no item is in two pools
            pool = pools[kind][kinds[:number].count(kind) :: kinds.count(kind)][:POOL]
            if len(pool):
                place = _place(number, count, length, policy.place)
                found.append(Slot(place, listed[length - count + number], pool))
    return found


def chances(slot: Slot, known: Known, policy: ExplorationPolicy) -> Floats:
    """The propensities of the pool of a slot; its regular item has what is left, 1 - `policy.share`."""
    pool = slot.pool
    wins = win_probabilities(known.scores[pool], known.clicks[pool], known.shown[pool], policy.strength)
    return policy.share * wins


def explored(
    listed: Sequence[int],
    drawn_from: Sequence[Slot],
    known: Callable[[], Known],
    policy: ExplorationPolicy,
    seed: int,
) -> Explored:
    """Draw what stands in each slot; the other items keep their order around them.

    Args:
        drawn_from: what `slots` made of the same list.
        known: asked only where an item is tried.
        seed: names the list; the same seed gives the same list.
    """
    propensities, tried = [1.0] * len(listed), [False] * len(listed)
    drawn: dict[int, int] = {}
    for slot in drawn_from:
        at = _uniform(seed, slot.place) - (1.0 - policy.share)
        if at < 0.0:
            drawn[slot.place], propensities[slot.place] = slot.regular, 1.0 - policy.share
            continue
        of_pool = chances(slot, known(), policy)
        which = min(int(np.searchsorted(np.cumsum(of_pool), at, side="right")), len(of_pool) - 1)
        drawn[slot.place] = int(slot.pool[which])
        propensities[slot.place] = float(of_pool[which])
        tried[slot.place] = True
    held = {slot.regular for slot in drawn_from}
    regular = iter([position for position in listed if position not in held])
    chosen = [drawn[place] if place in drawn else next(regular) for place in range(len(listed))]
    return Explored(chosen, propensities, tried)


def win_probabilities(scores: Floats, clicks: Floats, shown: Floats, strength: float) -> Floats:
    """The probability of each item [n] that its sum of score and drawn rate is the greatest of all.

    Args:
        scores: logarithms of probability [n], up to a constant.
        clicks, shown: of each item [n]; the posterior of its rate is Beta(1 + clicks,
            1 / MEAN_RATE - 1 + shown - clicks).
        strength: what a draw counts beside the score; above 0.

    Returns:
        Probabilities that sum to 1, none below `LEAST` / n.
    """
    alpha = 1.0 + clicks[:, None]
    beta = 1.0 / MEAN_RATE - 1.0 + np.maximum(shown - clicks, 0.0)[:, None]
    density = alpha * _LOG_RATES + (beta - 1.0) * _LOG_MISSES  # of the logarithm of the rate
    density = np.exp(density - density.max(axis=1, keepdims=True))
    below = np.zeros((len(scores), _GRID + 1))
    np.cumsum(density, axis=1, out=below[:, 1:])
    below /= below[:, -1:]
    # On one axis of sums, an item lies as many steps lower as its score does; what wins lies on the best's.
    steps = np.rint((scores.max() - scores) / (max(strength, 1e-3) * _STEP))
    at = np.minimum(np.arange(_GRID + 1) + np.minimum(steps, _GRID)[:, None].astype(np.intp), _GRID)
    under = np.take_along_axis(below, at, axis=1)
    middle = np.maximum((under[:, 1:] + under[:, :-1]) / 2.0, 1e-300)
    logs = np.log(middle)
    others = np.exp(logs.sum(axis=0) - logs)
    wins = (np.diff(under, axis=1) * others).sum(axis=1)
    wins = wins / wins.sum()
    probabilities: Floats = (1.0 - LEAST) * wins + LEAST / len(scores)
    return probabilities


def _kind(number: int, kinds: Sequence[str], pools: dict[str, Positions]) -> str | None:
    """The kind of a slot: its own, or the next that has anything to try."""
    for step in range(len(kinds)):
        kind = kinds[(number + step) % len(kinds)]
        if len(pools[kind]):
            return kind
    return None


def _place(number: int, count: int, length: int, first: int) -> int:
    """The place of a slot, from 0: spread from the place `first` to the end of the list."""
    start = min(first - 1, length - count)
    return start + number * (length - start) // count


def _uniform(seed: int, place: int) -> float:
    """A number in [0, 1) that a list and a place always have; the same on every machine."""
    digest = blake2b(f"{seed}/{place}".encode(), digest_size=7).digest()
    return (int.from_bytes(digest) >> 3) / 2.0**53
