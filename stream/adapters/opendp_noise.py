"""Noise on counts of shoppers by OpenDP; needs the extra `private`.

The discrete Gaussian on counts whose keys are not known beforehand: OpenDP adds noise to each count there is,
and lets none through that is not above a threshold, since that there is a count at all may tell of a single
shopper. Half of delta is for that; with the other half the noise's concentrated privacy loss becomes
an epsilon. What is said of both is what OpenDP computes for the mechanism as it was made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from stream.core.policy import ReleasePolicy
from stream.errors import ConfigError

try:
    import opendp.prelude as dp
except ImportError as error:
    raise ConfigError(
        "policy.release.epsilon is set, and what adds the noise is not installed: "
        f"pip install 'streamrec[private]', or leave the setting out ({error})"
    ) from error

dp.enable_features("contrib")  # OpenDP's word for what was proven, but not vetted by its committee


class ThresholdedGaussian:
    """`Noise` by OpenDP, as much as a policy asks for.

    Args:
        policy: its `epsilon` is above 0.
    """

    def __init__(self, policy: ReleasePolicy) -> None:
        counts = policy.items + policy.pairs
        # How far apart neighbouring maps of counts are: in so many places, by the root of it, by 1 at most.
        self._apart = counts, math.nextafter(math.sqrt(counts), math.inf), 1.0
        half = policy.delta / 2
        self.deviation: float = dp.binary_search(
            lambda scale: _loss(_made(scale, 2), self._apart, half)[0] <= policy.epsilon, T=float
        )
        self.threshold: int = dp.binary_search(
            lambda threshold: _loss(_made(self.deviation, threshold), self._apart, half)[1] <= half,
            bounds=(2, 2**30),
            T=int,
        )
        self._release = _made(self.deviation, self.threshold)
        self.epsilon, missed = _loss(self._release, self._apart, half)
        self.delta = half + missed

    def release(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Draw noise from the machine's source of randomness."""
        # To OpenDP a string ends at a NUL character, which pairs hold; JSON writes it in other ones.
        noised: dict[str, int] = self._release({json.dumps(key): count for key, count in counts.items()})
        return {json.loads(key): count for key, count in noised.items()}


def _made(deviation: float, threshold: int) -> Any:
    space = (
        dp.map_domain(dp.atom_domain(T="String"), dp.atom_domain(T="i64")),
        dp.l02inf_distance(dp.absolute_distance(T="f64")),
    )
    return dp.m.make_gaussian_threshold(*space, scale=deviation, threshold=threshold)


def _loss(measurement: Any, apart: tuple[int, float, float], delta: float) -> tuple[float, float]:
    """Epsilon of the noise with `delta`, and how likely a count of one shopper alone passes the threshold."""
    profile, missed = dp.c.make_zCDP_to_approxDP(measurement).map(apart)
    return float(profile.epsilon(delta)), float(missed)
