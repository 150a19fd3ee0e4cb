"""Noise on counts of shoppers by OpenDP; needs the extra `private`.

Discrete Gaussian noise, as wide on items as on pairs. The items are those of the catalogue, which no shopper
decides: each has a count, perhaps of nobody, and gets noise. Which pairs there are is decided by shoppers: of
those OpenDP lets none through that is not above a threshold, since that there is a count at all may tell of a
single shopper. Half of delta is for that; with the other half the noise's concentrated privacy loss becomes
an epsilon. What is said of both is what OpenDP computes for the mechanisms as they were made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from stream.core.policy import ReleasePolicy
from stream.core.release import to_noise
from stream.errors import ConfigError

try:
    import opendp.prelude as dp
except ImportError as error:
    raise ConfigError(
        "policy.release.epsilon is set, and what adds the noise is not installed: "
        f"pip install 'streamrec[private]', or leave the setting out ({error})"
    ) from error

dp.enable_features("contrib")  # OpenDP's word for what was proven, but not vetted by its committee


ITEM_DEVIATIONS = 4.0
"""A count of an item shows above so many deviations of the noise; one of nobody does 3 times in 100,000."""


class ThresholdedGaussian:
    """`Noise` by OpenDP, as much as a policy asks for.

    Args:
        policy: its `epsilon` is above 0.
    """

    def __init__(self, policy: ReleasePolicy) -> None:
        counts, pairs = policy.items + policy.pairs, max(1, policy.pairs)
        half = policy.delta / 2
        self.deviation: float = dp.binary_search(
            lambda scale: _epsilon(scale, counts, half) <= policy.epsilon, T=float
        )
        self.item_threshold = math.ceil(ITEM_DEVIATIONS * self.deviation)
        self.pair_threshold: int = dp.binary_search(
            lambda threshold: _missed(_of_pairs(self.deviation, threshold), pairs) <= half,
            bounds=(2, 2**30),
            T=int,
        )
        self._items = _of_items(self.deviation)
        self._pairs = _of_pairs(self.deviation, self.pair_threshold)
        self.epsilon = _epsilon(self.deviation, counts, half)
        self.delta = half + _missed(self._pairs, pairs)

    def release(self, counts: Mapping[str, int], catalogue: Collection[str]) -> dict[str, int]:
        """Draw noise from the machine's source of randomness."""
        items, pairs = to_noise(counts, catalogue)
        noised: dict[str, int] = {
            item_id: count
            for item_id, count in zip(catalogue, self._items(items), strict=True)
            if count > self.item_threshold
        }
        # To OpenDP a string ends at a NUL character, which pairs hold; JSON writes it in other ones.
        for key, count in self._pairs({json.dumps(key): count for key, count in pairs.items()}).items():
            noised[json.loads(key)] = count
        return noised


def _of_items(deviation: float) -> Any:
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    return dp.m.make_gaussian(*space, scale=deviation)


def _of_pairs(deviation: float, threshold: int) -> Any:
    space = (
        dp.map_domain(dp.atom_domain(T="String"), dp.atom_domain(T="i64")),
        dp.l02inf_distance(dp.absolute_distance(T="f64")),
    )
    return dp.m.make_gaussian_threshold(*space, scale=deviation, threshold=threshold)


def _epsilon(deviation: float, counts: int, delta: float) -> float:
    """What the noise may tell with `delta` where so many counts differ by 1, whatever they are of."""
    profile = dp.c.make_zCDP_to_approxDP(_of_items(deviation)).map(_root(counts))
    return float(profile.epsilon(delta))


def _missed(measurement: Any, pairs: int) -> float:
    """How likely one of so many pairs of one shopper alone passes the threshold."""
    return float(measurement.map((pairs, _root(pairs), 1.0))[1])


def _root(count: int) -> float:
    """The square root, or a little more."""
    return math.nextafter(math.sqrt(count), math.inf)
