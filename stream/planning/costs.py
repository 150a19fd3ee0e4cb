"""Runs to costs: what an event, a batch, an idle second, an item and a shopper cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stream.errors import WrongFile
from stream.planning.queue import Queue, simulate
from stream.planning.run import CatalogueReading, Machine, Run

WORKER = "worker"


class Cost(NamedTuple):
    """CPU seconds of one server: of a second without events, of a batch, and of an event."""

    idle: float
    batch: float
    event: float

    def of(self, seconds: float, batches: float, events: float) -> float:
        """The CPU seconds of a stretch."""
        return self.idle * seconds + self.batch * batches + self.event * events


class Costs(NamedTuple):
    """What things cost with a catalogue of so many items.

    `servers` has the servers of `Reading.cpu_s`; a worker's idle second is that of one worker.
    """

    servers: dict[str, Cost]
    lists_per_event: float
    batch_max: int
    worker_bytes: float
    worker_start_s: float
    state_bytes: float
    """Of a shopper without interactions."""
    interaction_bytes: float
    kept_lists_bytes: float
    item_row_bytes: float
    model_processes: dict[str, int]
    machines: tuple[Machine, ...]
    items_measured: int
    """The largest catalogue that servers were measured with."""
    items_read: int
    """The largest one that was read without servers."""

    def worker_rate(self) -> float:
        """Events a second at which one worker has a core of its own fully used."""
        worker = self.servers[WORKER]
        return (1 - worker.idle) / (worker.batch / self.batch_max + worker.event)

    def queue(self, rate: float, cores: float = math.inf) -> Queue:
        """How batches form at one worker that idles beside them on its one core.

        Where all servers share fewer `cores` than they could use, they work on a batch one after the other.
        """
        worker = self.servers[WORKER]
        left = max(1e-3, 1 - worker.idle)
        shared = max(1e-3, cores - sum(cost.idle for cost in self.servers.values()))
        return simulate(
            rate,
            max(worker.batch / left, sum(cost.batch for cost in self.servers.values()) / shared),
            max(worker.event / left, sum(cost.event for cost in self.servers.values()) / shared),
            self.batch_max,
        )

    def rate_on(self, cores: float, workers: int) -> float:
        """Events a second where all servers share so many cores and batches are full."""
        idle = sum(cost.idle * (workers if name == WORKER else 1) for name, cost in self.servers.items())
        event_s = sum(cost.batch / self.batch_max + cost.event for cost in self.servers.values())
        return min(workers * self.worker_rate(), max(0.0, cores - idle) / event_s)


def costs_of(runs: Sequence[Run], items: int) -> Costs:
    """Put runs together, for a catalogue of `items`.

    Several runs with one catalogue are taken together. Work by event and batch grows with the logarithm of
    the items, from the smallest catalogue that servers were measured with to the largest and on; where all
    were measured with one, it does not grow. A worker's memory and start grow by what each item took between
    the two largest catalogues that were read without servers. Idle time is that of the largest catalogue.

    Raises:
        WrongFile: there is nothing that an event's or an item's cost could be told from.
    """
    sizes: dict[int, list[Run]] = {}
    for run in runs:
        sizes.setdefault(run.items, []).append(run)
    few, many = min(sizes), max(sizes)
    low, high = _servers(sizes[few]), _servers(sizes[many])
    share = 0.0 if few == many else math.log(max(items, 1) / few) / math.log(many / few)
    item_bytes, item_s = _item([reading for run in runs for reading in run.catalogue])
    steady = [reading for run in runs for reading in run.readings if reading.rate] or [
        reading for run in runs for reading in run.readings if reading.events
    ]

    def mean(what: str, of: Sequence[Run]) -> float:
        return float(np.mean([getattr(run, what) for run in of]))

    state_bytes, interaction_bytes = _states(runs)
    return Costs(
        servers={
            name: Cost(
                high[name].idle,
                _between(low[name].batch, high[name].batch, share),
                _between(low[name].event, high[name].event, share),
            )
            for name in sorted(low.keys() & high.keys())
        },
        lists_per_event=sum(one.lists for one in steady) / sum(one.events for one in steady),
        batch_max=runs[0].batch_max,
        worker_bytes=mean("worker_bytes", sizes[few]) + item_bytes * max(0, items - few),
        worker_start_s=mean("worker_start_s", sizes[few]) + item_s * max(0, items - few),
        state_bytes=state_bytes,
        interaction_bytes=interaction_bytes,
        kept_lists_bytes=mean("kept_lists_bytes", runs),
        item_row_bytes=mean("item_row_bytes", runs),
        model_processes=runs[0].model_processes,
        machines=tuple(dict.fromkeys(run.machine for run in runs)),
        items_measured=many,
        items_read=max(reading.items for run in runs for reading in run.catalogue),
    )


def _between(low: float, high: float, share: float) -> float:
    """Go from `low` to `high` and on; what was measured to fall with the items is taken not to."""
    return low + max(0.0, high - low) * max(0.0, share)


def _item(readings: Sequence[CatalogueReading]) -> tuple[float, float]:
    """Bytes and CPU seconds of one item more, between the two largest catalogues that were read."""
    by_size: dict[int, list[CatalogueReading]] = {}
    for reading in readings:
        by_size.setdefault(reading.items, []).append(reading)
    if len(by_size) < 2:
        raise WrongFile("no run says what items take: measure with `streamrec plan measure`")
    small, large = sorted(by_size)[-2:]

    def more(what: str) -> float:
        less, most = (float(np.mean([getattr(one, what) for one in by_size[n]])) for n in (small, large))
        return max(0.0, most - less) / (large - small)

    return more("bytes"), more("cpu_s")


def _servers(runs: Sequence[Run]) -> dict[str, Cost]:
    """The cost of each server that best explains all readings of runs with one catalogue."""
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    for run in runs:
        for reading in run.readings:
            for name, cpu_s in reading.cpu_s.items():
                seconds = reading.seconds * (run.workers if name == WORKER else 1)
                rows.setdefault(name, []).append((seconds, reading.batches, reading.events, cpu_s))
    if not any(row[2] for row in rows.get(WORKER, ())):
        raise WrongFile("no run has events: measure with `streamrec plan measure`")
    return {name: _fit(np.array(found)) for name, found in rows.items()}


def _fit(rows: np.ndarray) -> Cost:
    """Least squares of relative errors with no negative cost: the best of all subsets of the three costs."""
    known, cpu_s = rows[:, :3], rows[:, 3]
    weight = 1 / np.maximum(cpu_s, 0.05 * max(cpu_s.max(), 1e-9))
    best, least = np.zeros(3), float("inf")
    for chosen in ((0, 1, 2), (0, 2), (0, 1), (1, 2), (2,), (1,), (0,)):
        columns = list(chosen)
        found, *_ = np.linalg.lstsq(known[:, columns] * weight[:, None], cpu_s * weight, rcond=None)
        if (found < 0).any():
            continue
        costs = np.zeros(3)
        costs[columns] = found
        off = float((((known @ costs - cpu_s) * weight) ** 2).sum())
        if off < least - 1e-12:
            best, least = costs, off
    return Cost(*map(float, best))


def _states(runs: Sequence[Run]) -> tuple[float, float]:
    """Bytes of a shopper, and of each interaction: a line through what states took."""
    readings = [reading for run in runs for reading in run.states]
    if not readings:
        raise WrongFile("no run says what states take: measure with `streamrec plan measure`")
    interactions = np.array([reading.interactions for reading in readings], float)
    each = np.array([reading.bytes / reading.shoppers for reading in readings])
    if len(set(interactions)) == 1:
        return float(each.mean()), 0.0
    slope, intercept = np.polyfit(interactions, each, 1)
    return float(intercept), float(slope)
