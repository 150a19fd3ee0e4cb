"""One run: generators are started, the rest is watched, and what they tell becomes one result."""

from __future__ import annotations

import asyncio
import os
import platform
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import psutil

from stream.adapters.kafka_clients import producer
from stream.adapters.kafka_reading import last_values
from stream.config import ENV_FILE, ENV_PREFIX, Config, environment_of
from stream.core.events import ItemMessage
from stream.errors import Unavailable
from stream.local.processes import die_with_parent
from traffic.arrivals import rate_at
from traffic.churn import churn
from traffic.figures import Histogram, Resampled, merged, slope
from traffic.generator import Done, Failed, Order, Progress, Ready, Start, Told
from traffic.profiles import PROFILES
from traffic.result import PERCENTILES, VERSION, Machine, Run, Settings, Slice, Times
from traffic.shoppers import Product
from traffic.slo import Slo, judge
from traffic.watching import Watcher, machine_cores

HERE = Path(__file__).resolve().parents[1]
RATE_OF_ONE = 1_000
"""Events a second that one process is given; where that is too much, the result says that it was late."""
SLICES = 120
LEAD_S = 0.3
READY_S = 60.0
LINE_BYTES = 64 * 2**20
LATE_MS = 10.0
RECENT_TELLS = 10

Said = Callable[[float, str], None]
_told = msgspec.json.Decoder(Told)


class Plan(NamedTuple):
    """What is to be run. `processes` is None where it is to be chosen."""

    profile: str
    rate: float
    seconds: float
    warm_up_s: float = 3.0
    patience_s: float = 30.0
    seed: int = 1
    shoppers: int = 10_000
    shopper_skew: float = 0.8
    item_skew: float = 1.0
    processes: int | None = None
    metrics: tuple[str, ...] = ()


class Catalogue(NamedTuple):
    """Products that shoppers act on, in an order by chance, and their messages as they lie in the topic."""

    products: list[Product]
    messages: dict[bytes, bytes]


async def read_catalogue(config: Config, most: int, seed: int) -> Catalogue:
    """Read products of the running shop, at most so many.

    Raises:
        Unavailable: Kafka does not answer, or the topic has no products.
    """
    found = await last_values(config.kafka, config.topics.items)
    decoder = msgspec.json.Decoder(ItemMessage)
    kept = []
    for key in sorted(found):
        with suppress(msgspec.DecodeError):
            message = decoder.decode(found[key])
            if message.available:
                kept.append((key, Product(message.item_id, message.title)))
    if not kept:
        raise Unavailable(
            f"{config.topics.items} of {config.kafka.bootstrap} holds no products: load the shop's, or have "
            "some made up by --make-items 1000"
        )
    random.Random(seed).shuffle(kept)
    kept = kept[:most]
    return Catalogue([product for _, product in kept], {key: found[key] for key, _ in kept})


async def run_load(
    plan: Plan, config: Config, catalogue: Catalogue, slo: Slo, said: Said = lambda at_s, note: None
) -> Run:
    """Put the load on, and sum up what its readers saw.

    Args:
        said: is given the seconds since the warm-up was over, and a note for people.

    Raises:
        Unavailable: Kafka did not answer, or a generator ended by itself.
    """
    async with producer(config.kafka) as asked:
        partitions = len(await asked.partitions_for(config.topics.recommendations))
    processes = plan.processes or enough_processes(plan)
    processes = min(processes, partitions)
    run = f"load-{plan.seed}-{uuid.uuid4().hex[:8]}"
    began_ms = time.time_ns() // 1_000_000
    watcher = Watcher(config, plan.metrics)
    interval_s = float(max(1, -int(-plan.seconds // SLICES)))
    with tempfile.TemporaryDirectory(prefix="streamrec-load-") as folder:
        products = Path(folder) / "products.json"
        products.write_bytes(msgspec.json.encode(catalogue.products))
        environment = generators_environment(config, Path(folder))
        orders = [
            Order(
                run=run,
                profile=plan.profile,
                rate=plan.rate,
                seconds=plan.seconds,
                warm_up_s=plan.warm_up_s,
                patience_s=plan.patience_s,
                interval_s=interval_s,
                seed=plan.seed,
                shoppers=plan.shoppers,
                shopper_skew=plan.shopper_skew,
                item_skew=plan.item_skew,
                products=str(products),
                index=index,
                processes=processes,
            )
            for index in range(processes)
        ]
        said(-plan.warm_up_s, "connecting")
        async with AsyncExitStack() as opened:
            generators = [
                await opened.enter_async_context(_generator(order, environment)) for order in orders
            ]
            async with asyncio.timeout(READY_S):
                await asyncio.gather(*(one.ready() for one in generators))
            began_s = time.monotonic() + LEAD_S + plan.warm_up_s
            for one in generators:
                one.start(time.time() + began_s - time.monotonic())
            done = await _watched(plan, config, catalogue, generators, watcher, began_s, said)
    return _summed(plan, config, catalogue, slo, done, watcher, interval_s, processes, began_ms)


def enough_processes(plan: Plan) -> int:
    """How many generators the highest rate of a profile takes, as far as there are cores."""
    at_s = np.linspace(0.0, plan.seconds, 1_000)
    highest = float(rate_at(PROFILES[plan.profile], plan.rate, plan.seconds, at_s).max())
    return max(1, min(machine_cores(), -int(-highest // RATE_OF_ONE)))


async def _watched(
    plan: Plan,
    config: Config,
    catalogue: Catalogue,
    generators: Sequence[_Generator],
    watcher: Watcher,
    began_s: float,
    said: Said,
) -> list[Done]:
    """Wait for the generators while all the rest goes on beside them; whatever fails first ends it all."""
    work = [watcher.run(began_s), _show(generators, watcher, began_s, said)]
    if share := PROFILES[plan.profile].churn:
        work.append(churn(config, catalogue.messages, plan.rate * share, plan.seed))
    try:
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(one) for one in work]
            ends = [tasks.create_task(one.done()) for one in generators]
            done = [await end for end in ends]
            for task in beside:
                task.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return done


async def _show(generators: Sequence[_Generator], watcher: Watcher, began_s: float, said: Said) -> None:
    while True:
        await asyncio.sleep(0.5)
        told = [one.progress for one in generators if one.progress is not None]
        recent = merged([part for one in generators for part in one.recent], 2)
        waiting = sum(one.waiting for one in told)
        lag = watcher.samples[-1].lag if watcher.samples else None
        note = (
            f"{sum(one.sent for one in told)} sent, {waiting} waiting, p50 {recent.percentile_ms(50):.0f} "
            f"p99 {recent.percentile_ms(99):.0f} ms" + ("" if lag is None else f", lag {lag}")
        )
        said(time.monotonic() - began_s, note)


def generators_environment(config: Config, folder: Path) -> dict[str, str]:
    """What makes a generator find its code, and load this configuration and no other."""
    nothing = folder / "streamrec.toml"
    nothing.touch()
    others = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    return {**others, **environment_of(config), ENV_FILE: str(nothing), "PYTHONPATH": str(HERE)}


class _Generator:
    """A process of load, and what it told last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.progress: Progress | None = None
        self.recent: list[Histogram] = []

    async def ready(self) -> None:
        while not isinstance(await self._told(), Ready):
            pass

    def start(self, at_s: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(Start(at_s)) + b"\n")

    async def done(self) -> Done:
        while True:
            told = await self._told()
            if isinstance(told, Done):
                return told
            if isinstance(told, Progress):
                self.progress = told
                self.recent = [*self.recent[-RECENT_TELLS:], Histogram.of(told.recent)]

    async def _told(self) -> Told:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise Unavailable(f"a generator of load ended by itself with {await self._process.wait()}")
        told: Told = _told.decode(line)
        if isinstance(told, Failed):
            raise Unavailable(told.message)
        return told


@asynccontextmanager
async def _generator(order: Order, environment: dict[str, str]) -> AsyncIterator[_Generator]:
    """Start a generator, give it its order, and have it gone at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "traffic.generator"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        limit=LINE_BYTES,
        preexec_fn=die_with_parent(),
    )
    try:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        yield _Generator(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _summed(
    plan: Plan,
    config: Config,
    catalogue: Catalogue,
    slo: Slo,
    done: Sequence[Done],
    watcher: Watcher,
    interval_s: float,
    processes: int,
    began_ms: int,
) -> Run:
    counts: Counter[str] = Counter()
    for one in done:
        counts.update(one.counts)
    slices, latencies, freshnesses = [], [], []
    for at, parts in enumerate(zip(*(one.parts for one in done), strict=True)):
        latencies.append(merged([Histogram.of(part.latency) for part in parts], 2))
        freshnesses.append(merged([Histogram.of(part.freshness) for part in parts], 2))
        slices.append(
            Slice(
                at * interval_s,
                sum(part.sent for part in parts),
                sum(part.lists for part in parts),
                sum(part.degraded for part in parts),
                sum(part.unanswered for part in parts),
                latencies[-1].text(),
                freshnesses[-1].text(),
            )
        )
    counts["lists"] = sum(one.lists for one in slices)
    counts["degraded"] = sum(one.degraded for one in slices)
    counts["shoppers"] = sum(one.acted for one in done)
    latency = _times([one.latency for one in done], latencies)
    freshness = _times([one.freshness for one in done], freshnesses)
    late = _times([one.late for one in done], [])
    samples = [one for one in watcher.samples if one.at_s <= plan.seconds + 1]
    lags = [(one.at_s, one.lag) for one in samples if one.lag is not None and one.at_s <= plan.seconds]
    lag_slope = slope([at_s for at_s, _ in lags], [lag for _, lag in lags])
    notes = list(watcher.notes)
    if late.percentiles["p99"].value > LATE_MS:
        notes.append(
            f"the generators were late themselves (p99 {late.percentiles['p99'].value:.0f} ms after the time "
            "they meant to send), and that counts in the latency: give them more --processes, or a machine "
            "of their own"
        )
    if not watcher.samples or all(one.lag is None for one in watcher.samples):
        notes.append(
            f"the lag of group {config.kafka.group} could not be seen: kafka.group names the workers' group"
        )
    topics = config.topics
    return Run(
        VERSION,
        began_ms,
        Settings(
            plan.profile,
            plan.rate,
            plan.seconds,
            plan.warm_up_s,
            plan.patience_s,
            plan.seed,
            plan.shoppers,
            plan.shopper_skew,
            plan.item_skew,
            processes,
            len(catalogue.products),
            config.kafka.bootstrap,
            [topics.clicks, topics.searches, topics.recommendations],
        ),
        machine(),
        dict(counts),
        sorted({clock for one in done for clock in one.clocks}),
        interval_s,
        slices,
        latency,
        freshness,
        late,
        _times([one.acknowledge for one in done], []),
        lag_slope,
        watcher.samples,
        watcher.used(sum(one.lists for one in slices)),
        watcher.stages(),
        watcher.batches(),
        watcher.counters(),
        notes,
        judge(slo, slices, latency, freshness, lag_slope, plan.rate),
    )


def _times(wholes: Sequence[str], parts: Sequence[Histogram]) -> Times:
    whole = merged([Histogram.of(text) for text in wholes])
    drawn = Resampled(parts)
    return Times(
        whole.count,
        whole.mean_ms,
        whole.most_ms,
        {name: drawn.interval_ms(whole, percent) for name, percent in PERCENTILES.items()},
        whole.text(),
    )


def machine() -> Machine:
    """This machine."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    memory_mb = psutil.virtual_memory().total // 2**20
    return Machine(machine_cores(), processor, memory_mb, platform.platform(), platform.python_version())
