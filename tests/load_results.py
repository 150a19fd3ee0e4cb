"""Made-up results of load tests, as runs write them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from traffic.figures import Histogram, Interval, Resampled, merged, slope
from traffic.result import (
    PERCENTILES,
    VERSION,
    Batches,
    Machine,
    Probe,
    Run,
    Sample,
    Saturation,
    Settings,
    Slice,
    Stage,
    Times,
    Use,
)
from traffic.slo import Slo, judge

MACHINE = Machine(2, "a processor", 24_000, "Linux", "3.11")


@cache
def a_run(
    latency_ms: float = 40.0, *, seed: int = 1, seconds: int = 30, unanswered: int = 0, **settings: Any
) -> Run:
    """A steady run; latencies are drawn around a middle, and `unanswered` events are of the last second."""
    random = np.random.default_rng(seed)
    parts, fresh, slices = [], [], []
    for at in range(seconds):
        counted = [Histogram(2), Histogram(2)]
        for time_ms in random.lognormal(np.log(latency_ms), 0.4, size=50):
            counted[0].add(time_ms)
            counted[1].add(time_ms / 2)
        parts.append(counted[0])
        fresh.append(counted[1])
        missing = unanswered if at == seconds - 1 else 0
        slices.append(Slice(float(at), 50, 48, 1, missing, counted[0].text(), counted[1].text()))
    samples = [
        Sample(
            at + 1.0,
            30 + int(random.integers(20)),
            {"worker": 0.4, "<b>": 0.1},
            {"worker": 300.0, "<b>": 9.0},
            {"worker": 60.0},
        )
        for at in range(seconds)
    ]
    latency, freshness = _times(parts), _times(fresh)
    lag = slope([one.at_s for one in samples], [float(one.lag or 0) for one in samples])
    given: dict[str, Any] = {"profile": "steady", "rate": 50.0, "seconds": float(seconds), **settings}
    limits = Slo(latency_p99_ms=250.0, lag_slope=0.02, unanswered_share=0.0)
    return Run(
        version=VERSION,
        began_ms=1_700_000_000_000,
        settings=Settings(
            **given,
            warm_up_s=3.0,
            patience_s=30.0,
            seed=1,
            shoppers=100,
            shopper_skew=0.8,
            item_skew=1.0,
            processes=1,
            products=600,
            bootstrap="127.0.0.1:9092",
            topics=["clicks", "searches", "recommendations"],
        ),
        machine=MACHINE,
        counts={
            "sent": 50 * seconds,
            "answered": 50 * seconds - unanswered,
            "unanswered": unanswered,
            "named": 9,
            "lists": 48 * seconds,
            "degraded": seconds,
        },
        clocks=["events: LogAppendTime", "lists: LogAppendTime"],
        interval_s=1.0,
        slices=slices,
        latency=latency,
        freshness=freshness,
        late=_times(fresh[:1]),
        acknowledge=_times(fresh[:1]),
        lag_slope=lag,
        samples=samples,
        used={"worker": Use(12.0, 8.3, 300.0, Interval(0.0, -1.0, 1.0), 60), "<b>": Use(3.0, 2.1, 9.0, None)},
        stages={"rerank": Stage(900, 5.0, 4.0, 9.0, 12.0)},
        batches={"worker: events": Batches(900, 1.6), "Triton: reranker": Batches(800, 2.0, 0.4, 1.3)},
        workers={"streamrec_lists": 1_440.0},
        notes=["a note <with> signs"],
        checks=judge(limits, slices, latency, freshness, lag, 50.0),
    )


@cache
def a_saturation() -> Saturation:
    """A search that found a limit."""
    best = a_run()
    probes = [
        Probe(20.0, True, Interval(80.0, 70.0, 95.0), Interval(0.1, -1.0, 1.0), ""),
        Probe(160.0, False, Interval(4_000.0, 3_000.0, 5_000.0), None, "latency_p99_ms, lag_slope"),
    ]
    highest = Interval(110.0, 90.0, 130.0)
    return Saturation(VERSION, 1_700_000_000_000, best.settings, MACHINE, highest, 0.9, True, probes, best)


def _times(parts: list[Histogram]) -> Times:
    whole, drawn = merged(parts), Resampled(parts)
    found = {name: drawn.interval_ms(whole, percent) for name, percent in PERCENTILES.items()}
    return Times(whole.count, whole.mean_ms, whole.most_ms, found, whole.text())
