"""Measure what things cost, on a stack of its own that is started for it and gone afterwards."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from stream.adapters import redis_client, triton_servers, vector_record
from stream.adapters.kafka_clients import producer
from stream.adapters.kafka_sender import Sender
from stream.adapters.redis_state import RedisStateStore
from stream.adapters.triton_repository import TritonRepository
from stream.config import Config, load_config
from stream.core.events import ClickMessage, SearchMessage
from stream.core.state import Interaction, UserState
from stream.core.versions import order
from stream.errors import LocalStackError
from stream.importers import synthetic
from stream.importers.replay import Pace
from stream.local.fetching import Progress
from stream.local.processes import memory_bytes
from stream.local.stack import Stack
from stream.planning.catalogue import made_up, read_catalogues
from stream.planning.processes import Spent, spent
from stream.planning.run import Machine, Reading, Run, StatesReading, now

POLL_S = 0.2
CATALOGUE_WAIT_S = 600.0
BACKLOG_WAIT_S = 600.0
QUIET_WAIT_S = 60.0
QUIET_CORES = 0.2
"""Servers that use less than this together have nothing left to do from before."""
SHOPPERS = 400
CATALOGUES = (1_000, 5_000, 20_000)
STATES = ((5_000, 10), (5_000, 50), (2_000, 150))
"""Shoppers, and interactions of each."""
INTERACTION_GAP_MS = 47_000
STATES_AT_ONCE = 500
KEYS_LOOKED_AT = 500
HTTP_TIMEOUT = aiohttp.ClientTimeout(total=120.0)
"""A worker that takes in a large catalogue answers nobody meanwhile."""


class Options(NamedTuple):
    """What is measured; `rates` in events a second, `backlog` in events."""

    seconds: float
    rates: tuple[float, ...]
    backlog: int
    items: int
    workers: int
    catalogues: tuple[int, ...] = CATALOGUES
    """Read without servers."""


class _Books(NamedTuple):
    at_s: float
    cpu: Spent
    events: float
    lists: float
    batches: float


def measure(options: Options, progress: Progress) -> Run:
    """Start servers, load a catalogue, send events, and read the books before and after.

    Raises:
        LocalStackError: the servers could not be started, or did not get done.
    """
    folder = Path(tempfile.mkdtemp(prefix="streamrec-plan-"))
    stack = Stack(folder)
    try:
        stack.up(options.workers, owned=True, progress=progress)
        return asyncio.run(_Measurement(options, stack, progress).run())
    finally:
        stack.down(now=True)
        shutil.rmtree(folder, ignore_errors=True)


class _Measurement:
    def __init__(self, options: Options, stack: Stack, progress: Progress) -> None:
        self._options = options
        self._stack = stack
        self._progress = progress
        self._config: Config = load_config(env={**os.environ, **stack.environment})
        items = synthetic.make_items()
        self._items = items
        events = synthetic.make_events(items, 1, shoppers=SHOPPERS, start_ms=0)
        self._events = _stamped(events)

    async def run(self) -> Run:
        """Measure everything once."""
        options, config = self._options, self._config
        async with (
            producer(config.kafka, linger_ms=0) as client,
            aiohttp.ClientSession(timeout=HTTP_TIMEOUT) as http,
        ):
            sender = Sender(client, config.topics)
            await self._load(sender, http)
            start_s = await asyncio.to_thread(self._restart)
            await self._until_quiet()
            readings = [await self._reading(http, sender, rate) for rate in (0.0, *options.rates, None)]
            largest_bytes = max(memory_bytes(pid) or 0 for pid in self._workers())
            processes = (await asyncio.to_thread(spent, self._stack)).model_processes
        async with _redis(config) as redis:
            prefix = config.redis.key_prefix
            kept = await _bytes_by_owner(redis, (f"{prefix}l:", f"{prefix}s:"))
            rows = await _bytes_by_owner(redis, (f"{prefix}i:",))
            states = [await self._states(redis, *wanted) for wanted in STATES]
        bar = self._progress.step(f"reading {options.catalogues[-1]:,} products without servers", None)
        catalogue = await asyncio.to_thread(read_catalogues, options.catalogues)
        bar.done()
        return Run(
            measured_at=now(),
            machine=Machine.here(),
            release=version("streamrec"),
            items=options.items,
            workers=options.workers,
            batch_max=config.worker.batch_max,
            readings=tuple(readings),
            states=tuple(states),
            catalogue=catalogue,
            worker_bytes=largest_bytes,
            worker_start_s=start_s,
            kept_lists_bytes=kept,
            item_row_bytes=rows,
            model_processes=processes,
        )

    async def _load(self, sender: Sender, http: aiohttp.ClientSession) -> None:
        """Publish products to be encoded, and as many more with vectors made up as are wanted."""
        for item in self._items:
            await sender.send(item)
        await sender.flush()
        await self._until_followed(http, len(self._items))
        more = self._options.items - len(self._items)
        if more > 0:
            encoder, cross_encoder = await self._versions()
            bar = self._progress.step(f"publishing {more:,} more products", None)
            for record in made_up(more, encoder, cross_encoder):
                await sender.send_raw(
                    self._config.topics.item_vectors,
                    record.item.item_id.encode(),
                    vector_record.encode(record),
                )
            await sender.flush()
            bar.done()
            await self._until_followed(http, self._options.items)

    async def _versions(self) -> tuple[str, str]:
        triton = self._config.triton
        client = triton_servers.connect(triton)
        try:
            repository = TritonRepository(client, triton)
            return (
                max(await repository.ready(triton.encoder), key=order),
                max(await repository.ready(triton.cross_encoder), key=order),
            )
        finally:
            await client.close()

    async def _until_followed(self, http: aiohttp.ClientSession, wanted: int) -> None:
        bar = self._progress.step(f"workers read {wanted:,} products", None)
        deadline_s = time.monotonic() + CATALOGUE_WAIT_S
        while (found := min(await self._gauges(http))) < wanted:
            if time.monotonic() > deadline_s:
                raise LocalStackError(
                    f"workers had {found:,} of {wanted:,} products after {CATALOGUE_WAIT_S:.0f} s"
                )
            bar.note(f"{found:,}")
            await asyncio.sleep(POLL_S)
        bar.done()

    async def _gauges(self, http: aiohttp.ClientSession) -> list[int]:
        """How many products each worker has with their vectors."""
        found = []
        for port in self._ports():
            values = await _metrics(http, port)
            without = values["streamrec_catalogue_items_without_vector"]
            found.append(int(values["streamrec_catalogue_items"] - without))
        return found

    def _restart(self) -> float:
        """Stop and start every worker; the longest that one took to be ready again."""
        bar = self._progress.step("starting workers anew", None)
        names = [server.name for server in self._stack.status().servers if server.name.startswith("worker-")]
        for name in names:
            self._stack.stop(name)
        for name in names:
            self._stack.start(name)
        bar.done()
        return max(
            server.ready_after_s or 0.0 for server in self._stack.status().servers if server.name in names
        )

    async def _until_quiet(self) -> None:
        """Wait while the servers still do what the catalogue gave them to do, up to a minute."""
        bar = self._progress.step("waiting until all is quiet", None)
        deadline_s = time.monotonic() + QUIET_WAIT_S
        before = await asyncio.to_thread(spent, self._stack)
        while time.monotonic() < deadline_s:
            began_s = time.monotonic()
            await asyncio.sleep(2.0)
            after = await asyncio.to_thread(spent, self._stack)
            used_s = sum(after.by_server.values()) - sum(before.by_server.values())
            if used_s / (time.monotonic() - began_s) < QUIET_CORES:
                break
            before = after
        bar.done()

    async def _reading(self, http: aiohttp.ClientSession, sender: Sender, rate: float | None) -> Reading:
        options = self._options
        if rate is None:
            what = f"working off {options.backlog:,} events"
        else:
            what = (
                f"{rate:g} events/s for {options.seconds:g} s"
                if rate
                else f"no events for {options.seconds:g} s"
            )
        bar = self._progress.step(what, None)
        before = await self._books(http)
        sent = 0
        if rate == 0:
            await asyncio.sleep(options.seconds)
        elif rate is None:
            for event in itertools.islice(self._events, options.backlog):
                await sender.send(event)
                sent += 1
        else:
            pace = Pace(rate=rate)
            while time.monotonic() - before.at_s < options.seconds:
                if (wait_s := pace.wait_s(0)) > 0:
                    await asyncio.sleep(wait_s)
                await sender.send(next(self._events))
                sent += 1
        await sender.flush()
        deadline_s = time.monotonic() + BACKLOG_WAIT_S
        while (after := await self._books(http)).events - before.events < sent:
            if time.monotonic() > deadline_s:
                raise LocalStackError(f"{what}: not done {BACKLOG_WAIT_S:.0f} s after the last was sent")
            await asyncio.sleep(POLL_S)
        bar.done()
        cpu_s = {
            name: round(after.cpu.by_server[name] - before.cpu.by_server.get(name, 0.0), 3)
            for name in sorted(after.cpu.by_server)
        }
        return Reading(
            rate=rate,
            seconds=round(after.at_s - before.at_s, 3),
            events=int(after.events - before.events),
            lists=int(after.lists - before.lists),
            batches=int(after.batches - before.batches),
            cpu_s=cpu_s,
            others_cpu_s=round(after.cpu.machine_s - before.cpu.machine_s - sum(cpu_s.values()), 3),
        )

    async def _books(self, http: aiohttp.ClientSession) -> _Books:
        values: defaultdict[str, float] = defaultdict(float)
        for port in self._ports():
            for name, value in (await _metrics(http, port)).items():
                values[name] += value
        cpu = await asyncio.to_thread(spent, self._stack)
        return _Books(
            time.monotonic(),
            cpu,
            values["streamrec_events_total"],
            values["streamrec_lists_total"],
            values["streamrec_batch_messages_count/events"],
        )

    def _ports(self) -> list[int]:
        servers = self._stack.status().servers
        return [server.ports["telemetry"] for server in servers if server.name.startswith("worker-")]

    def _workers(self) -> list[int]:
        servers = self._stack.status().servers
        return [server.pid for server in servers if server.name.startswith("worker-") and server.pid]

    async def _states(self, redis: Redis, shoppers: int, interactions: int) -> StatesReading:
        """Save states of invented shoppers as a worker does, and see by how much Redis grew."""
        bar = self._progress.step(f"{shoppers:,} shoppers of {interactions} interactions in Redis", None)
        store = RedisStateStore(redis, f"plan:{interactions}:")
        rng = random.Random(interactions)
        before = int((await redis.info("memory"))["used_memory"])
        for at in range(0, shoppers, STATES_AT_ONCE):
            await store.save(
                [
                    (_state(f"shopper-{n}", interactions, rng), 0)
                    for n in range(at, min(at + STATES_AT_ONCE, shoppers))
                ]
            )
        after = int((await redis.info("memory"))["used_memory"])
        bar.done()
        return StatesReading(shoppers, interactions, after - before)


def _stamped(events: Iterator[ClickMessage | SearchMessage]) -> Iterator[ClickMessage | SearchMessage]:
    """The same events, each happening when it is asked for."""
    last_ms = 0
    for event in events:
        last_ms = max(int(time.time() * 1000), last_ms + 1)
        yield msgspec.structs.replace(event, event_time=last_ms)


def _state(user_id: str, interactions: int, rng: random.Random) -> UserState:
    """A shopper who looked at so many things, in sessions of eight, of a catalogue of 100,000."""
    now_ms = time.time_ns() // 1_000_000
    return UserState(
        user_id,
        now_ms,
        tuple(
            Interaction(
                now_ms - (interactions - place) * INTERACTION_GAP_MS - rng.randrange(INTERACTION_GAP_MS),
                f"{rng.randrange(100_000):05d}",
                0,
                place // 8,
                rng.randrange(1 << 24),
            )
            for place in range(interactions)
        ),
    )


@asynccontextmanager
async def _redis(config: Config) -> AsyncIterator[Redis]:
    client = redis_client.connect(config.redis)
    assert isinstance(client, Redis), "a stack of its own has no cluster"
    try:
        yield client
    finally:
        await client.aclose()


async def _bytes_by_owner(redis: Redis, prefixes: tuple[str, ...]) -> float:
    """What the keys of a shopper, or of an item, take in Redis on average; 0 where there are none."""
    of: Counter[bytes] = Counter()
    for prefix in prefixes:
        looked_at = 0
        async for key in redis.scan_iter(match=f"{prefix}*", count=1000):
            of[key[len(prefix) :]] += int(await redis.memory_usage(key, samples=0) or 0)
            looked_at += 1
            if looked_at == KEYS_LOOKED_AT:
                break
    return round(of.total() / len(of), 1) if of else 0.0


async def _metrics(http: aiohttp.ClientSession, port: int) -> dict[str, float]:
    """A worker's metrics, summed over their labels; those of batches by agent too."""
    async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    values: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] += sample.value
            if "agent" in sample.labels:
                values[f"{sample.name}/{sample.labels['agent']}"] += sample.value
    return values
