"""Give a few places of a list to items of which little is known, with known probabilities.

A list of L places with S slots shows its best L - S items as they are. Each slot has a regular item, the
next best, and a pool of its own: new items, or those that came after the list. With probability
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

from collections.abc import Sequence
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


class Slot(NamedTuple):
    """A place of the list left to chance: `place` from 0, the items that may stand there, how likely."""

    place: int
    positions: Positions
    propensities: Floats


class Explored(NamedTuple):
    """The positions in their new order; of each place, the propensity and whether chance was asked."""

    order: Positions
    propensities: Floats
    explored: BoolArray


def showings(touches: Floats) -> Floats:
    """The showings [n] that some touches, clicks or purchases are taken to have come from."""
    expected: Floats = touches / MEAN_RATE
    return expected


def slots(
    order: Positions,
    scores: Floats,
    clicks: Floats,
    shown: Floats,
    new: BoolArray,
    length: int,
    policy: ExplorationPolicy,
) -> list[Slot]:
    """The places of a list that are left to chance, and the probabilities of what may stand there.

    Args:
        order: positions, best first; what must not be in the list is not among them.
        scores: by position [N], finite.
        clicks: by position, how often the item was clicked.
        shown: by position, how often it was shown, at least `clicks`.
        new: by position, whether the item is new.
        length: places in the list.

    Returns:
        One slot for each whose pool holds an item; none where the list shows everything there is.
    """
    count = min(policy.slots, length - 1)
    spare = order[length:]
    if count < 1 or policy.share <= 0.0 or not len(spare):
        return []
    pools = {"new": spare[new[spare]][: POOL * count], "uncertain": spare[~new[spare]][: POOL * count]}
    kinds = [_kind(number, policy.kinds, pools) for number in range(count)]
    found = []
    for number, kind in enumerate(kinds):
        if kind is None:
            continue
        among = kinds.count(kind)  # dealt out like cards, so that no item is in two pools
        pool = pools[kind][kinds[:number].count(kind) :: among]
        if not len(pool):
            continue
        wins = win_probabilities(scores[pool], clicks[pool], shown[pool], policy.strength)
        regular = order[length - count + number]
        found.append(
            Slot(
                _place(number, count, length, policy.place),
                np.concatenate([[regular], pool]),
                np.concatenate([[1.0 - policy.share], policy.share * wins]),
            )
        )
    return found


def explored(order: Positions, drawn_from: Sequence[Slot], length: int, seed: int) -> Explored:
    """Draw what stands in each slot; the other items keep their order around them.

    Args:
        drawn_from: what `slots` made of the same order and length.
        seed: names the list; the same seed gives the same list.
    """
    size = min(length, len(order))
    propensities, chance = np.ones(size), np.zeros(size, np.bool_)
    taken = {int(slot.positions[0]) for slot in drawn_from}
    regular = iter([position for position in order[:size].tolist() if position not in taken])
    drawn: dict[int, int] = {}
    for slot in drawn_from:
        at = np.searchsorted(np.cumsum(slot.propensities), _uniform(seed, slot.place), side="right")
        which = min(int(at), len(slot.positions) - 1)
        drawn[slot.place] = int(slot.positions[which])
        propensities[slot.place] = slot.propensities[which]
        chance[slot.place] = which > 0
    top = [drawn[place] if place in drawn else next(regular) for place in range(size)]
    out = set(top)
    rest = [position for position in order.tolist() if position not in out]
    return Explored(np.array(top + rest, np.intp), propensities, chance)


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
