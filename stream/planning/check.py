"""What the costs foretell of a run, beside what the run found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from stream.planning.costs import WORKER, Costs, costs_of
from stream.planning.run import Run


class Compared(msgspec.Struct, frozen=True):
    """One figure; `error` is how far the foretold one is off, as a share of the found one."""

    what: str
    unit: str
    foretold: float
    found: float
    error: float


def check(run: Run, runs: Sequence[Run]) -> tuple[Compared, ...]:
    """Foretell a run from others, with its catalogue, its workers and what else used the machine.

    Raises:
        WrongFile: the others do not tell what an event costs.
    """
    figures = _figures(run, costs_of(runs, run.items))
    return tuple(
        Compared(what, unit, foretold, found, foretold / found - 1)
        for what, unit, foretold, found in figures
        if found
    )


def _figures(run: Run, costs: Costs) -> Iterator[tuple[str, str, float, float]]:
    for reading in run.readings:
        if not reading.lists:
            continue
        rate = reading.events / reading.seconds
        left = run.machine.cores - reading.others_cpu_s / reading.seconds
        # Of a backlog, where many events of a shopper share a list, by event.
        under, unit, lists = "a backlog", "ms an event", float(reading.events)
        found_lists = reading.events
        if reading.rate is not None:
            under, unit, found_lists = f"{reading.rate:g} events/s", "ms a list", reading.lists
            lists = reading.events * costs.lists_per_event
            batch = costs.queue(rate / run.workers, left / run.workers).mean_batch
            yield f"batches, {under}", "events each", batch, reading.events / reading.batches
        # With the batches that were found, so that an error of theirs is not counted twice.
        cpu_s = {
            name: cost.of(
                reading.seconds * (run.workers if name == WORKER else 1), reading.batches, reading.events
            )
            for name, cost in costs.servers.items()
        }
        found_s = sum(reading.cpu_s.values())
        workers = 1000 * cpu_s[WORKER] / lists, 1000 * reading.cpu_s[WORKER] / found_lists
        yield f"CPU of workers, {under}", unit, *workers
        everything = 1000 * sum(cpu_s.values()) / lists, 1000 * found_s / found_lists
        yield f"CPU of all servers, {under}", unit, *everything
        if reading.rate is None:
            yield "events at saturation", "a second", costs.rate_on(left, run.workers), rate
    for states in run.states:
        foretold = costs.state_bytes + states.interactions * costs.interaction_bytes
        yield (
            f"Redis, {states.interactions} interactions",
            "bytes a shopper",
            foretold,
            states.bytes / states.shoppers,
        )
    yield "Redis, lists kept", "bytes a shopper", costs.kept_lists_bytes, run.kept_lists_bytes
    yield "memory of a worker", "MB", costs.worker_bytes / 1e6, run.worker_bytes / 1e6
    yield "start of a worker", "s", costs.worker_start_s, run.worker_start_s
