"""Print what one published list costs the worker in CPU: python load_tests/bench_worker.py

Example:

    python load_tests/bench_worker.py --rounds 3 --json cpu.json
    python load_tests/bench_worker.py --worker "streamrec worker" --worker "/old/.venv/bin/streamrec worker"

Starts Kafka, Redis and Triton of its own, and one worker at a time, which gets the demo's shop and a past of
a few hundred shoppers. Then what is measured: a while of rest, events at a steady rate, and a backlog that
the worker takes as fast as it can. CPU is what the worker's process used by the kernel's account, all of its
threads and both of its consumer groups included, so that what else the machine does moves it less than a
clock would be moved. With several builds each round runs all of them in turn on the same servers, and their
ratio is taken round by round.

Where `py-spy` is installed, `--profile FILE` writes the stacks of the worker with the backlog, one a line
with its samples, for any viewer of collapsed stacks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

# Not the checkout's root: its folder `triton` on the path would shadow the package of that name.
sys.path.insert(0, str(Path(__file__).parent))

import msgspec
from faults.workers import WorkerProcess
from prometheus_client.parser import text_string_to_metric_families

from stream.adapters.kafka_clients import admin, producer
from stream.adapters.kafka_sender import Sender
from stream.adapters.kafka_topics import create_topics
from stream.cli.progress import progress_bar
from stream.config import Config, load_config
from stream.core.events import ClickMessage, ItemMessage, SearchMessage
from stream.core.items import Item
from stream.demo.data import built_in, composed
from stream.local.stack import Stack

STEP_MS = 50
"""Between two events by their own times: with a few hundred shoppers nobody acts faster than a person."""
PARTITIONS = 4
DEADLINE_S = 600.0
POLL_S = 0.5
THIS_BUILD = f"{Path(sys.executable).with_name('streamrec')} worker"
"""The command of the worker that is installed beside this Python."""
TOPICS = (
    *("clicks", "searches", "items", "recommendations", "attributions", "rules"),
    *("dead_letters", "item_vectors", "item_signals", "list_log", "model_versions"),
)
LABELS = ("agent", "stage", "cache", "result", "model")
STAGES = ("decode", "load", "encode", "retrieve", "rerank", "cross_encode", "save", "publish")


class Reading(NamedTuple):
    """What a worker had done and used at one time."""

    at_s: float
    cpu_s: float
    events: float
    lists: float
    batches: float
    degraded: float
    increments: float
    stage_s: dict[str, float]


class Phase(NamedTuple):
    """What came between two readings."""

    seconds: float
    cpu_s: float
    events: float
    lists: float
    events_a_batch: float
    degraded: float
    messages_of_increments: float
    stage_ms_a_list: dict[str, float]

    @property
    def cpu_ms_a_list(self) -> float:
        """Of the worker's process; not a number where there was no list."""
        return self.cpu_s / self.lists * 1e3 if self.lists else float("nan")


@contextmanager
def servers() -> Iterator[tuple[Stack, Path]]:
    """Start Kafka, Redis and Triton, with a folder that stays only where something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="streamrec-bench-"))
    with Stack(folder / "stack") as stack:
        stack.up(owned=True)
        yield stack, folder
    shutil.rmtree(folder)


def settings(stack: Stack) -> dict[str, str]:
    """Topics, a group and keys of their own on the servers of a stack, as variables of a worker."""
    name = uuid.uuid4().hex[:8]
    return {
        "STREAMREC_KAFKA__BOOTSTRAP": stack.endpoints.kafka,
        "STREAMREC_KAFKA__GROUP": f"bench-{name}",
        "STREAMREC_KAFKA__PARTITIONS": str(PARTITIONS),
        "STREAMREC_REDIS__URL": stack.endpoints.redis,
        "STREAMREC_REDIS__KEY_PREFIX": f"{name}:",
        "STREAMREC_TRITON__URL": stack.endpoints.triton_grpc,
        **{f"STREAMREC_TOPICS__{topic.upper()}": f"{topic.replace('_', '-')}-{name}" for topic in TOPICS},
    }


class Worker:
    """One worker with topics, keys and a catalogue of its own."""

    def __init__(
        self, stack: Stack, folder: Path, command: Sequence[str], items: Sequence[ItemMessage]
    ) -> None:
        env = settings(stack)
        self.config: Config = load_config(env=env)
        self._env, self._folder, self._command, self._items = env, folder, command, items
        self._published = 0
        self.texts = {
            item.item_id: Item(item.item_id, item.title, item.description or "").text for item in items
        }

    async def start(self) -> None:
        """Bring up topics, the worker and the catalogue, and wait until all vectors are there."""
        await create_topics(self.config)
        self.process = WorkerProcess(0, self._env, self._folder, self._command)
        await self.process.ready()
        if not self.process.alive:
            raise SystemExit(f"the worker ended by itself: see {self.process.log}")
        async with producer(self.config.kafka) as client:
            sender = Sender(client, self.config.topics)
            for item in self._items:
                await sender.send(item)
            await sender.flush()
        wanted = len(self._items)
        await self._until(
            lambda found: (
                found.get("streamrec_catalogue_items", 0) >= wanted
                and not found.get("streamrec_catalogue_items_without_vector", 1)
                and not found.get("streamrec_messages_left", 1)
            )
        )

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.process.port}/metrics"

    async def stop(self) -> None:
        """End it and throw its topics away."""
        await self.process.end()
        async with admin(self.config.kafka) as client:
            await client.delete_topics(list(msgspec.structs.asdict(self.config.topics).values()))

    async def take(self, events: Iterable[ClickMessage | SearchMessage], rate: float = 0.0) -> Phase:
        """Publish events, at a rate in events a second or (0) at once, and see the worker finish them."""
        before = self._read()
        async with producer(self.config.kafka) as client:
            sender = Sender(client, self.config.topics)
            for number, event in enumerate(events):
                if rate:
                    await asyncio.sleep(max(0.0, before.at_s + number / rate - time.monotonic()))
                await sender.send(event)
                self._published += 1
            await sender.flush()
        done_s = 0.0

        def finished(found: dict[str, float]) -> bool:
            nonlocal done_s
            if found.get("streamrec_events_total", 0) < self._published:
                return False
            done_s = done_s or time.monotonic()
            return not (found.get("streamrec_messages_left", 1) or found.get("streamrec_pairs_waiting", 0))

        await self._until(finished)
        return _between(before, self._read()._replace(at_s=done_s))

    async def rest(self, seconds: float) -> Phase:
        """Have it do nothing for a while."""
        before = self._read()
        await asyncio.sleep(seconds)
        return _between(before, self._read())

    async def _until(self, condition: Any) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition(await asyncio.to_thread(sums, self.metrics_url)):
            if not self.process.alive or time.monotonic() > deadline:
                raise SystemExit(f"the worker ended or does not finish: see {self.process.log}")
            await asyncio.sleep(POLL_S)

    def _read(self) -> Reading:
        found = sums(self.metrics_url)
        return Reading(
            time.monotonic(),
            cpu_s(self.process.process.pid),
            found.get("streamrec_events_total", 0),
            found.get("streamrec_lists_total", 0),
            found.get("streamrec_batch_messages_count/events", 0),
            found.get("streamrec_degraded_lists_total", 0),
            found.get("streamrec_batch_messages_sum/signals", 0),
            {stage: found.get(f"streamrec_stage_seconds_sum/{stage}", 0) for stage in STAGES},
        )


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its threads, in user and kernel mode (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sums(url: str) -> dict[str, float]:
    """Metrics by name, summed over their labels; and by name and the values of `LABELS`."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = [sample.labels[label] for label in LABELS if label in sample.labels]
            for name in (sample.name, "/".join([sample.name, *values])) if values else (sample.name,):
                found[name] = found.get(name, 0.0) + sample.value
    return found


def _between(before: Reading, after: Reading) -> Phase:
    lists, batches = after.lists - before.lists, after.batches - before.batches
    events = after.events - before.events
    return Phase(
        after.at_s - before.at_s,
        after.cpu_s - before.cpu_s,
        events,
        lists,
        events / batches if batches else float("nan"),
        after.degraded - before.degraded,
        after.increments - before.increments,
        {
            stage: (after.stage_s[stage] - before.stage_s[stage]) / lists * 1e3 if lists else float("nan")
            for stage in STAGES
        },
    )


def all_at_once(
    events: Iterable[ClickMessage | SearchMessage], count: int, shoppers: int, seed: int
) -> list[ClickMessage | SearchMessage]:
    """Take events of the first so many shoppers and mix them: everybody is there at once.

    Each shopper's order stays. Their times are `STEP_MS` apart and end now.
    """
    rng = random.Random(f"bench {seed}")
    of: dict[str, deque[ClickMessage | SearchMessage]] = {}
    taken = 0
    for event in events:
        if event.user_id in of or len(of) < shoppers:
            of.setdefault(event.user_id, deque()).append(event)
            taken += 1
            if taken == count:
                break
    mixed = []
    users = list(of)
    first_ms = time.time_ns() // 1_000_000 - taken * STEP_MS
    while users:
        user = rng.choice(users)
        event = of[user].popleft()
        mixed.append(msgspec.structs.replace(event, event_time=first_ms + len(mixed) * STEP_MS))
        if not of[user]:
            users.remove(user)
    return mixed


def _catalogue(
    items: Sequence[ItemMessage], events: Iterable[ClickMessage | SearchMessage], count: int
) -> list[ItemMessage]:
    """So many products, first those that events are about."""
    touched = {event.item_id for event in events if isinstance(event, ClickMessage)}
    return sorted(items, key=lambda item: item.item_id not in touched)[:count]


async def measure(
    stack: Stack, folder: Path, command: Sequence[str], given: argparse.Namespace
) -> dict[str, Phase]:
    """Run one build through all phases."""
    shop = composed(given.data, given.seed) if given.data else built_in(given.seed)
    counts = (given.past, round(given.rate * given.seconds), given.backlog)
    mixed = all_at_once(shop.events, sum(counts), given.shoppers, given.seed)
    events = iter(mixed)
    worker = Worker(stack, folder, command, _catalogue(shop.items, mixed, given.items))
    await worker.start()
    try:
        await worker.take(islice(events, counts[0]))
        phases = {"rest": await worker.rest(given.rest)}
        phases["steady"] = await worker.take(islice(events, counts[1]), given.rate)
        profiler = _profiler(given.profile, worker.process.process.pid)
        try:
            phases["backlog"] = await worker.take(islice(events, counts[2]))
        finally:
            if profiler is not None:
                profiler.send_signal(signal.SIGINT)  # then it writes
                profiler.wait()
        return phases
    finally:
        await worker.stop()


def _profiler(file: Path | None, pid: int) -> subprocess.Popen[bytes] | None:
    if file is None:
        return None
    command = ["py-spy", "record", "--format", "raw", "--output", str(file), "--pid", str(pid)]
    more = ["--rate", "200", "--duration", "3600", "--nolineno"]
    return subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def told(builds: Sequence[str], rounds: Sequence[Sequence[dict[str, Phase]]]) -> list[str]:
    """The figures as lines: medians over the rounds, with the least and the most."""
    lines = []
    for number, build in enumerate(builds):
        lines += [build] if len(builds) > 1 else []
        runs = [one[number] for one in rounds]
        lines.append(
            f"  at rest: {spread([run['rest'].cpu_s / run['rest'].seconds for run in runs])} of a core"
        )
        for name in ("steady", "backlog"):
            phases = [run[name] for run in runs]
            lines += [
                f"  {name}: {spread([phase.cpu_ms_a_list for phase in phases])} ms of CPU a list",
                f"    lists/s {spread([phase.lists / phase.seconds for phase in phases])}, "
                f"lists an event {spread([phase.lists / phase.events for phase in phases])}, "
                f"events a batch {spread([phase.events_a_batch for phase in phases])}, "
                f"degraded {spread([phase.degraded / phase.lists for phase in phases])}, messages of "
                f"increments an event {spread([p.messages_of_increments / p.events for p in phases])}",
                "    ms a list, waiting included: "
                + ", ".join(
                    f"{stage} {statistics.median(phase.stage_ms_a_list[stage] for phase in phases):.2f}"
                    for stage in STAGES
                ),
            ]
        if number:
            for name in ("steady", "backlog"):
                ratios = [one[number][name].cpu_ms_a_list / one[0][name].cpu_ms_a_list for one in rounds]
                lines.append(f"  {name}: {spread(ratios)} of the first build's CPU a list")
    return lines


def spread(values: Sequence[float]) -> str:
    """Write the median, and the least and the most where there are several."""
    middle = f"{statistics.median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g} to {max(values):.3g})"


def main() -> int:
    """Measure as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python load_tests/bench_worker.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--worker", action="append", metavar="COMMAND", help="a build; may be repeated")
    parser.add_argument("--rounds", type=int, default=1, help="default %(default)s")
    parser.add_argument("--shoppers", type=int, default=300, help="default %(default)s")
    parser.add_argument("--past", type=int, default=4_500, help="events before what is measured")
    parser.add_argument("--rest", type=float, default=5.0, help="seconds of rest")
    parser.add_argument("--rate", type=float, default=40.0, help="events a second of the steady phase")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the steady phase")
    parser.add_argument("--backlog", type=int, default=3_000, help="events published at once")
    parser.add_argument("--items", type=int, default=2_000, help="most products (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="chooses who does what")
    parser.add_argument("--data", type=Path, help="composed data, as `python -m stream.demo --data` takes it")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="stacks of the last worker, by py-spy")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    if given.profile and not shutil.which("py-spy"):
        print("--profile: py-spy is not there: pip install py-spy", file=sys.stderr)
        return 2
    builds = given.worker or [THIS_BUILD]
    rounds: list[list[dict[str, Phase]]] = []
    with servers() as (stack, folder), progress_bar("bench", given.rounds * len(builds)) as bar:
        for number in range(given.rounds):
            rounds.append([])
            for build in builds:
                bar(number * len(builds) + len(rounds[-1]), build)
                rounds[-1].append(asyncio.run(measure(stack, folder, shlex.split(build), given)))
    print("\n".join(told(builds, rounds)))
    if given.json:
        figures = [
            [{n: p._asdict() | {"cpu_ms_a_list": p.cpu_ms_a_list} for n, p in one.items()} for one in several]
            for several in rounds
        ]
        given.json.write_text(json.dumps({"builds": builds, "rounds": figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
