"""One run: an engine is started, used and broken, left to come to rest, and judged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from aiokafka.errors import KafkaError

from faults.engine import BrokenEngine
from faults.evidence import Commits, Evidence, Incident, gather
from faults.kinds import KINDS, Fault, terms
from faults.referee import Verdict, judge
from faults.schedule import Planned, by_lane
from faults.shoppers import Shoppers, catalogue
from stream.errors import Unavailable
from stream.local.stack import Stack

USERS, ITEMS = 40, 36
AFTER_S = 1.0
"""How long shoppers go on after the last fault."""
SAMPLE_S = 0.5
CATCH_UP_S = 60.0
DRAIN_S = 240.0
"""Says that the engine is stuck, not that it is slow."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `left_over` are faults that were planned and not reached in time."""

    evidence: Evidence
    verdict: Verdict
    left_over: int
    took_s: float


async def break_and_judge(
    stack: Stack,
    folder: Path,
    planned: Sequence[Planned],
    *,
    seed: int,
    workers: int = 2,
    events_a_second: float = 12.0,
    alone: bool = False,
    give_up_s: float | None = None,
    command: Sequence[str] | None = None,
    told: Callable[[int, str], None] = lambda done, note: None,
) -> Outcome:
    """Play the planned faults while shoppers act, then compare what is left with what must hold.

    Args:
        folder: for the workers' logs.
        alone: no fault begins before all that came during the last one is worked on.
        give_up_s: no fault begins later than this after the first.
        command: what is started in the place of `streamrec worker`.
        told: is given how many faults are over, and a note.

    Raises:
        LocalStackError, Unavailable, TimeoutError: the servers or workers do not come up or back.
    """
    begun = time.monotonic()
    engine = BrokenEngine(stack, folder, command)
    told(0, "starting workers")
    await engine.start(workers, ITEMS)
    try:
        shop = engine.open_shop(Shoppers(seed, USERS, ITEMS), events_a_second)
        play = _Play(engine, give_up_s, told, alone)
        commits: list[Commits] = []
        stop = asyncio.Event()
        publishing = asyncio.create_task(shop.run(stop))
        noticing = [
            asyncio.create_task(engine.workers.watch()),
            asyncio.create_task(_note_commits(engine, commits)),
        ]
        try:
            await play.all_lanes(planned)
            told(len(play.incidents), "waiting until all is well")
            await engine.make_well(workers)
            await asyncio.sleep(AFTER_S)
            stop.set()
            await publishing
            told(len(play.incidents), "waiting until all is worked on")
            undrained = await engine.drained(DRAIN_S)
        finally:
            for task in (publishing, *noticing):
                task.cancel()
            await asyncio.gather(publishing, *noticing, return_exceptions=True)
        told(len(play.incidents), "comparing")
        users = [f"shopper-{number:03d}" for number in range(USERS)]
        items = [item["item_id"] for item in catalogue(ITEMS)]
        incidents = sorted(play.incidents, key=lambda incident: incident.begun_ms)
        found = await gather(engine, users, items, shop.acknowledged, commits, incidents, undrained)
        evidence = replace(found, stuck=play.stuck)
        verdict = judge(evidence)
        return Outcome(evidence, verdict, len(planned) - len(incidents), time.monotonic() - begun)
    finally:
        await engine.stop()


class _Play:
    """Faults that happen: those of one lane after another, the lanes beside each other unless `alone`."""

    def __init__(
        self, engine: BrokenEngine, give_up_s: float | None, told: Callable[[int, str], None], alone: bool
    ) -> None:
        self._engine = engine
        self._give_up_s = give_up_s
        self._told = told
        self._alone = alone
        self._now: Counter[str] = Counter()
        self.incidents: list[Incident] = []
        self.stuck: list[str] = []

    async def all_lanes(self, planned: Sequence[Planned]) -> None:
        self._begun = time.monotonic()
        async with asyncio.TaskGroup() as lanes:
            for lane in [planned] if self._alone else by_lane(planned, terms()).values():
                lanes.create_task(self._one_lane(lane))

    async def _one_lane(self, planned: Sequence[Planned]) -> None:
        for one in planned:
            await asyncio.sleep(max(0.0, one.at_s - self._since()))
            if self._give_up_s is not None and self._since() > self._give_up_s:
                return
            fault = await self._happen(one)
            if self._alone:
                await fault.noticed()
                await self._engine.caught_up(CATCH_UP_S)

    async def _happen(self, one: Planned) -> Fault:
        fault = KINDS[one.kind](self._engine, one.pick)
        begun_ms = _now_ms()
        self._now[one.kind] += 1
        self._told(len(self.incidents), ", ".join(+self._now))
        try:
            await fault.begin()
            await asyncio.sleep(one.hold_s)
            await fault.end()
        except TimeoutError as error:
            self.stuck.append(str(error))
        self._now[one.kind] -= 1
        self.incidents.append(Incident(one.kind, fault.victim, begun_ms, _now_ms()))
        self._told(len(self.incidents), ", ".join(+self._now))
        return fault

    def _since(self) -> float:
        return time.monotonic() - self._begun


async def _note_commits(engine: BrokenEngine, commits: list[Commits]) -> None:
    """Look again and again at what is committed; a broker that is away is asked later."""
    while True:
        with suppress(Unavailable, KafkaError, OSError, TimeoutError):
            committed = await engine.committed()
            commits.append(Commits(_now_ms(), committed))
        await asyncio.sleep(SAMPLE_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
