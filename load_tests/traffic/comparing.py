"""Two runs side by side: what changed, with bounds, and whether anything became worse.

Bounds come from drawing each run's intervals again (see `figures.Resampled`). They tell how far chance within
a run reaches, not how much one run differs from the next on another day: where that matters, compare several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.errors import WrongFile
from traffic.figures import RESAMPLES, Histogram, Interval, Resampled, with_bounds
from traffic.result import Run, Times, read

PERCENTS = {"p50": 50.0, "p95": 95.0, "p99": 99.0}
Drawn = NDArray[np.float64]


class Change(NamedTuple):
    """One figure of both runs, the difference second - first with its bounds, and what it means.

    `verdict` is "worse" or "better" where the bounds leave out zero and the change exceeds the tolerance,
    "same" otherwise. Of figures that are neither good nor bad it is "".
    """

    name: str
    unit: str
    before: float
    after: float
    difference: Interval
    verdict: str


def read_run(path: Path) -> Run:
    """Read a file of `run`. Raises `WrongFile` where it is not one."""
    found = read(path)
    if not isinstance(found, Run):
        raise WrongFile(f"{path}: is of `saturate`; two files of `run --json` can be compared")
    return found


def compare(before: Run, after: Run, tolerance: float) -> list[Change]:
    """Compare two runs of one load.

    Args:
        tolerance: share of the first run's figure by which it may change and still count as the same.

    Raises:
        WrongFile: they are not of the same profile, rate and length.
    """
    for name in ("profile", "rate", "seconds"):
        one, other = getattr(before.settings, name), getattr(after.settings, name)
        if one != other:
            raise WrongFile(
                f"these cannot be compared: {name} is {one} in the first and {other} in the second"
            )
    return [_changed(*found, tolerance) for found in _figures(before, after)]


def _figures(before: Run, after: Run) -> Iterator[tuple[str, str, tuple[float, float], Drawn | None, int]]:
    """Name, unit, both values, differences drawn, and which sign is worse (0: neither)."""
    for name in ("latency", "freshness"):
        times: tuple[Times, Times] = (getattr(before, name), getattr(after, name))
        drawn = [
            Resampled([Histogram.of(getattr(one, name)) for one in run.slices], seed)
            for seed, run in enumerate((before, after), 1)
        ]
        for short, percent in PERCENTS.items():
            first, second = (one.percentiles_ms(percent) for one in drawn)
            values = (times[0].percentiles[short].value, times[1].percentiles[short].value)
            difference = None if first is None or second is None else second - first
            yield f"{name} {short}", "ms", values, difference, 1
    yield _of_sums(before, after, "unanswered", "share", _share("unanswered", "sent"), 1)
    yield _of_sums(before, after, "degraded lists", "share", _share("degraded", "lists"), 1)
    yield _of_sums(before, after, "lists", "a second", _rate("lists"), 0)
    for name in sorted(before.used.keys() & after.used.keys()):
        one, other = before.used[name], after.used[name]
        yield f"memory of {name}", "MB", (one.most_memory_mb, other.most_memory_mb), None, 1
        if one.cpu_ms_per_list is not None and other.cpu_ms_per_list is not None:
            values = (one.cpu_ms_per_list, other.cpu_ms_per_list)
            yield f"CPU of {name}", "ms a list", values, _cpu(before, after, name), 1


def _changed(
    name: str, unit: str, values: tuple[float, float], drawn: Drawn | None, worse: int, tolerance: float
) -> Change:
    before, after = values
    difference = with_bounds(after - before, drawn)
    verdict = ""
    if worse:
        verdict = "same"
        # What has no bounds, such as memory, is judged by the tolerance alone.
        low = after - before if difference.low is None else difference.low
        high = after - before if difference.high is None else difference.high
        if (low > 0 or high < 0) and abs(after - before) > tolerance * abs(before):
            verdict = "worse" if (after - before) * worse > 0 else "better"
    return Change(name, unit, before, after, difference, verdict)


def _of_sums(
    before: Run,
    after: Run,
    name: str,
    unit: str,
    figure: tuple[Callable[[Run], NDArray[np.float64]], Callable[[Drawn], Drawn]],
    worse: int,
) -> tuple[str, str, tuple[float, float], Drawn | None, int]:
    rows, of_sums = figure
    tables = [rows(run) for run in (before, after)]
    first, second = (float(of_sums(table.sum(axis=0)[None])[0]) for table in tables)
    return name, unit, (first, second), _difference(tables, of_sums), worse


def _share(part: str, whole: str) -> tuple[Callable[[Run], NDArray[np.float64]], Callable[[Drawn], Drawn]]:
    def rows(run: Run) -> NDArray[np.float64]:
        return np.array([(getattr(one, part), getattr(one, whole)) for one in run.slices], np.float64)

    return rows, lambda sums: sums[:, 0] / np.maximum(1, sums[:, 1])


def _rate(part: str) -> tuple[Callable[[Run], NDArray[np.float64]], Callable[[Drawn], Drawn]]:
    def rows(run: Run) -> NDArray[np.float64]:
        return np.array([(getattr(one, part), run.interval_s) for one in run.slices], np.float64)

    return rows, lambda sums: sums[:, 0] / sums[:, 1]


def _cpu(before: Run, after: Run, name: str) -> Drawn | None:
    """Differences of milliseconds of CPU a list, the samples of each run drawn again."""
    means: list[Drawn] = []
    for seed, run in enumerate((before, after), 1):
        spent = np.array([one.cpu[name] for one in run.samples if name in one.cpu])
        lists = run.counts.get("lists", 0)
        if len(spent) < 2 or not lists:
            return None
        drawn = _drawings(seed, len(spent)) @ spent
        cpu_ms = run.used[name].cpu_ms_per_list or 0.0
        means.append(drawn / max(1e-9, float(spent.sum())) * cpu_ms)
    difference: Drawn = means[1] - means[0]
    return difference


def _difference(tables: Sequence[NDArray[np.float64]], of_sums: Callable[[Drawn], Drawn]) -> Drawn | None:
    if min(len(table) for table in tables) < 2:
        return None
    first, second = (of_sums(_drawings(seed, len(table)) @ table) for seed, table in enumerate(tables, 1))
    difference: Drawn = second - first
    return difference


def _drawings(seed: int, count: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    drawn = random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn.astype(np.float64)
