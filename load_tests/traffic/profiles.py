"""The kinds of load: how the rate goes over time, and what the events are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
LONGEST_BURST_CYCLE_S = 10.0
BURST_SHARE, BURST_FACTOR = 0.1, 5.0


def _level(at_s: Times, seconds: float) -> Times:
    return np.ones_like(at_s)


def _bursts(at_s: Times, seconds: float) -> Times:
    cycle_s = min(LONGEST_BURST_CYCLE_S, seconds / 3)
    return np.where(at_s % cycle_s >= cycle_s * (1 - BURST_SHARE), BURST_FACTOR, 1.0)


def _rising(at_s: Times, seconds: float) -> Times:
    return 0.1 + 0.9 * np.clip(at_s / seconds, 0.0, 1.0)


class Profile(NamedTuple):
    """A kind of load.

    `shape` gives the rate at times, as a factor of the rate asked for. Shares are of all events: `searches`,
    of which `new_words` are such as nobody typed before, `hot` those of one single shopper. With
    `new_shoppers` every event is somebody's first. `churn` is how many products change for each event.
    """

    about: str
    shape: Callable[[Times, float], Times] = _level
    searches: float = 0.15
    new_words: float = 0.1
    hot: float = 0.0
    new_shoppers: bool = False
    churn: float = 0.0
    seconds: float = 60.0


PROFILES: dict[str, Profile] = {
    "steady": Profile("one rate throughout"),
    "burst": Profile("five times the rate for a tenth of every ten seconds", _bursts),
    "ramp": Profile("from a tenth of the rate up to all of it", _rising, seconds=120.0),
    "soak": Profile("one rate for an hour: what grows?", seconds=3600.0),
    "search-storm": Profile(
        "four of five events are searches, half of them new ones", searches=0.8, new_words=0.5
    ),
    "hot-user": Profile("every other event is one single shopper's", hot=0.5),
    "new-users": Profile("every event is the first of its shopper", new_shoppers=True),
    "catalogue-churn": Profile("beside one rate, a product changes for every fifth event", churn=0.2),
}
