"""The highest rate that holds the SLO, by bisection that allows for probes which chance decides.

What is known of the rate is a distribution over a grid of rates (probabilistic bisection: Horstein 1963;
Waeber, Frazier, Henderson 2013). A probe that held moves weight to rates above its own, one that did not to
those below; the next probe is where half of the weight lies on either side. Near the limit chance decides a
probe (`SOFT`), and one in `1 / WRONG` is taken to be wrong altogether: one slow moment does not end it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import numpy as np

from traffic.figures import Interval

WRONG = 0.05
SOFT = 0.05
"""Around the limit, a probe off by this share of the rate goes wrong in about one of four cases."""
STEPS = 400
CONFIDENCE = 0.9
DOUBLING = 2.0


class Found(NamedTuple):
    """The highest rate with the bounds that it lies between with `CONFIDENCE`.

    `bounded` is False where no probe held, or none failed: the limit then lies at an end of what was sought.
    """

    highest: Interval
    bounded: bool


class Belief:
    """What is known of the highest rate between two; before the first probe, each factor is as likely."""

    def __init__(self, low: float, high: float) -> None:
        self._rates = np.geomspace(low, high, STEPS)
        self._weights = np.full(STEPS, 1 / STEPS)
        self.outcomes: set[bool] = set()

    def learn(self, rate: float, held: bool) -> None:
        """Take a probe into account."""
        likely = 1 / (1 + np.exp(-np.log(self._rates / rate) / SOFT))
        likely = WRONG + (1 - 2 * WRONG) * likely
        self._weights *= likely if held else 1 - likely
        self._weights /= self._weights.sum()
        self.outcomes.add(held)

    def found(self) -> Found:
        """The median of what is left, and bounds."""
        cumulated = np.cumsum(self._weights)
        shares = ((1 - CONFIDENCE) / 2, 0.5, (1 + CONFIDENCE) / 2)
        at = np.minimum(np.searchsorted(cumulated, shares), STEPS - 1)
        low, middle, high = self._rates[at].tolist()
        return Found(Interval(middle, low, high), len(self.outcomes) == 2)


async def seek(
    probe: Callable[[float], Awaitable[bool]],
    low: float,
    high: float,
    *,
    precision: float,
    most_probes: int,
) -> Found:
    """Ask `probe` whether rates hold, until the bounds are within `precision` of the middle.

    Rates are doubled from `low` until one does not hold, so that an engine is not buried first of all.
    """
    belief = Belief(low, high)
    rate = low
    for _ in range(most_probes):
        held = await probe(rate)
        belief.learn(rate, held)
        found = belief.found()
        middle, least, most = found.highest.value, found.highest.low or low, found.highest.high or high
        if False not in belief.outcomes and rate < high:
            rate = min(high, rate * DOUBLING)
        elif found.bounded and (most - least) / 2 <= precision * middle:
            break
        else:
            rate = middle
    return belief.found()
