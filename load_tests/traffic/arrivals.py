"""Who does what at what time: one stream, the same for the same seed on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from traffic.profiles import Profile

CHUNK = 4_096
STEPS_A_SECOND = 100
MOST_STEPS = 1_000_000
SEARCH = "search"
ACTS = ("view_item", "select_item", "add_to_cart", "remove_from_cart", "purchase")
ACT_SHARES = (0.70, 0.12, 0.10, 0.02, 0.06)
HOT_SHOPPER = 0


class Arrival(NamedTuple):
    """One event to come.

    `at_s` counts from the end of the warm-up, so it is negative before; `shopper` and `item` are numbers by
    rank, the most frequent first; `act` is one of `ACTS` or `SEARCH`; `new_words` is set where a search is to
    be one that nobody typed before.
    """

    number: int
    at_s: float
    shopper: int
    act: str
    item: int
    new_words: bool


def arrivals(
    profile: Profile,
    rate: float,
    seconds: float,
    *,
    seed: int,
    shoppers: int,
    items: int,
    warm_up_s: float = 0.0,
    shopper_skew: float = 0.8,
    item_skew: float = 1.0,
) -> Iterator[Arrival]:
    """Give a Poisson stream whose rate follows the profile; while warming up it is that of the beginning.

    Args:
        rate: events a second where the profile's factor is 1.
        shoppers, items: how many there are to choose from.
        shopper_skew, item_skew: exponents of Zipf's law; 0 makes all alike.
    """
    random = np.random.default_rng(seed)
    times_s, expected = _expected(profile, rate, seconds, warm_up_s)
    of_shopper, of_item = _zipf(shoppers, shopper_skew), _zipf(items, item_skew)
    of_act = np.cumsum(ACT_SHARES)
    number, reached = 0, 0.0
    while True:
        # A Poisson process of rate one, whose clock is then stretched so that it has the profile's rate.
        unit = reached + np.cumsum(random.exponential(size=CHUNK))
        reached = float(unit[-1])
        at_s = np.interp(unit, expected, times_s)
        draws = random.random((6, CHUNK))
        who = np.minimum(np.searchsorted(of_shopper, draws[0]), shoppers - 1)
        who = np.where(draws[1] < profile.hot, HOT_SHOPPER, who)
        what = np.minimum(np.searchsorted(of_item, draws[2]), items - 1)
        acts = np.minimum(np.searchsorted(of_act, draws[3]), len(ACTS) - 1)
        searches = draws[4] < profile.searches
        fresh = draws[5] < profile.new_words
        for at in range(CHUNK):
            if unit[at] > expected[-1]:
                return
            act = SEARCH if searches[at] else ACTS[acts[at]]
            shopper = number if profile.new_shoppers else int(who[at])
            yield Arrival(number, float(at_s[at]), shopper, act, int(what[at]), bool(fresh[at]))
            number += 1


def rate_at(profile: Profile, rate: float, seconds: float, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rate that a profile asks for at times, events a second."""
    rates: NDArray[np.float64] = profile.shape(at_s, seconds) * rate
    return rates


def _expected(
    profile: Profile, rate: float, seconds: float, warm_up_s: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times, and how many events are to be expected up to each."""
    steps = int(min(MOST_STEPS, max(2, (seconds + warm_up_s) * STEPS_A_SECOND)))
    times_s = np.linspace(-warm_up_s, seconds, steps + 1)
    middles_s = (times_s[1:] + times_s[:-1]) / 2
    rates = rate_at(profile, rate, seconds, np.maximum(middles_s, 0.0))
    return times_s, np.concatenate([[0.0], np.cumsum(rates * np.diff(times_s))])


def _zipf(count: int, skew: float) -> NDArray[np.float64]:
    """The share of the first so many ranks in all draws."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -skew
    shares: NDArray[np.float64] = np.cumsum(weights) / weights.sum()
    return shares
