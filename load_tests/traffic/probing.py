"""The search for the highest rate, with real runs as its probes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from stream.config import Config
from traffic.result import VERSION, Probe, Run, Saturation
from traffic.running import Catalogue, Plan, machine, run_load
from traffic.saturation import CONFIDENCE, seek
from traffic.slo import Slo
from traffic.watching import Lag

SETTLED_S = 5.0
"""Lag that has not fallen for so long is not waited for any more."""
SETTLE_MOST_S = 300.0
POLL_S = 0.5


async def saturation(
    plan: Plan,
    config: Config,
    catalogue: Catalogue,
    slo: Slo,
    low: float,
    high: float,
    precision: float,
    most_probes: int,
    told: Callable[[int, str], None],
) -> Saturation:
    """Probe rates between two, each with a seed of its own, until the highest is known well enough.

    Args:
        precision: as of `seek`.
        told: is given the number of probes done, and a note.

    Raises:
        Unavailable: Kafka did not answer, or a generator ended by itself.
    """
    began_ms = time.time_ns() // 1_000_000
    probes: list[Probe] = []
    runs: list[Run] = []

    async def probe(rate: float) -> bool:
        told(len(probes), "waiting until nothing waits")
        await settled(config)
        run = await run_load(
            plan._replace(rate=rate, seed=plan.seed + len(probes)),
            config,
            catalogue,
            slo,
            lambda at_s, note: told(len(probes), f"{rate:.1f}/s: {note}"),
        )
        why = ", ".join(check.name for check in run.checks if not check.held)
        probes.append(Probe(rate, run.held, run.latency.percentiles["p99"], run.lag_slope, why))
        runs.append(run)
        return run.held

    found = await seek(probe, low, high, precision=precision, most_probes=most_probes)
    best = max((run for run in runs if run.held), key=lambda run: run.settings.rate, default=None)
    return Saturation(
        VERSION,
        began_ms,
        runs[0].settings,
        machine(),
        found.highest,
        CONFIDENCE,
        found.bounded,
        probes,
        best,
    )


async def settled(config: Config) -> None:
    """Wait until the workers have no lag, or theirs falls no more."""
    end_s = time.monotonic() + SETTLE_MOST_S
    least, least_s = float("inf"), time.monotonic()
    async with Lag(config) as lag:
        while waiting := await lag():
            now_s = time.monotonic()
            if waiting < least:
                least, least_s = waiting, now_s
            if now_s - least_s > SETTLED_S or now_s > end_s:
                return
            await asyncio.sleep(POLL_S)
