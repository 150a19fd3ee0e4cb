"""How batches form in front of a worker, simulated: it takes all that waits, up to a bound, then the next."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

import numpy as np

EVENTS = 10_000
SEED = 7


class Queue(NamedTuple):
    """What comes of a rate: mean batch, share of the time that is worked, and how long events took, in s."""

    mean_batch: float
    busy: float
    p50_s: float
    p99_s: float


def simulate(rate: float, batch_s: float, event_s: float, batch_max: int) -> Queue:
    """Let events arrive by chance (Poisson) at a worker that needs `batch_s + n * event_s` for a batch of n.

    An event's time runs from its arrival to the end of its batch. The same chance each time, so that two
    rates can be compared. At a rate that the worker cannot keep up with, the times grow as long as it is
    simulated.
    """
    arrivals_s: list[float] = np.cumsum(np.random.default_rng(SEED).exponential(1 / rate, EVENTS)).tolist()
    took_s: list[float] = []
    free_s = worked_s = 0.0
    taken = batches = 0
    while taken < EVENTS:
        begin_s = max(free_s, arrivals_s[taken])
        upto = min(bisect_right(arrivals_s, begin_s, taken), taken + batch_max)
        needed_s = batch_s + (upto - taken) * event_s
        free_s = begin_s + needed_s
        worked_s += needed_s
        took_s += [free_s - arrival_s for arrival_s in arrivals_s[taken:upto]]
        taken, batches = upto, batches + 1
    p50_s, p99_s = np.percentile(took_s, (50, 99))
    return Queue(EVENTS / batches, worked_s / free_s, float(p50_s), float(p99_s))
