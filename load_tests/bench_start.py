"""Print how long a worker with a large catalogue takes to its first list: python load_tests/bench_start.py

Example:

    python load_tests/bench_start.py --items 100000 --index

Starts Kafka, Redis and Triton of its own, lays a made-up catalogue with its vectors into `item-vectors`,
starts a worker, has one shopper look at an item as soon as it is ready, and waits for the list. CPU is the
worker's own.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import time
from pathlib import Path

# Not the checkout's root: its folder `triton` on the path would shadow the package of that name.
sys.path.insert(0, str(Path(__file__).parent))

from bench_catalogue import records
from bench_worker import THIS_BUILD, cpu_s, servers, settings
from faults.workers import WorkerProcess

from stream.adapters.kafka_clients import consumer, producer
from stream.adapters.kafka_sender import Sender
from stream.adapters.kafka_topics import create_topics
from stream.cli.progress import progress_bar
from stream.config import load_config
from stream.core.events import ClickMessage
from stream.local.stack import Stack

LIST_WAIT_S = 600.0
POLL_S = 0.2
INDEXED = "the index of its vectors is made"


async def start(stack: Stack, folder: Path, given: argparse.Namespace) -> list[str]:
    """Lay the catalogue down and start the worker; the figures as lines."""
    env = settings(stack)
    config = load_config(env=env)
    topics = config.topics
    await create_topics(config)
    async with (
        producer(config.kafka) as client,
        consumer(config.kafka, topics.recommendations) as lists,
    ):
        sender = Sender(client, topics)
        with progress_bar("catalogue", given.items) as bar:
            for number, (key, value) in enumerate(records(given.items)):
                await sender.send_raw(topics.item_vectors, key, value)
                if number % 1_000 == 0:
                    bar(number, "")
            await sender.flush()
        for partition in lists.assignment():
            await lists.position(partition)
        began_s = time.monotonic()
        worker = WorkerProcess(0, env, folder, shlex.split(given.worker))
        try:
            await worker.ready()
            if not worker.alive:
                raise SystemExit(f"the worker ended by itself: {worker.log.read_text()[-2_000:]}")
            lines = [_line("ready", began_s, worker)]
            await sender.send(
                ClickMessage(
                    event_id="first",
                    event_type="view_item",
                    event_time=time.time_ns() // 1_000_000,
                    user_id="ann",
                    item_id="item-0000007",
                )
            )
            await asyncio.wait_for(anext(aiter(lists)), LIST_WAIT_S)
            lines.append(_line("first list", began_s, worker))
            if given.index:
                await asyncio.to_thread(_wait_for_index, worker)
                lines.append(_line("index of all vectors", began_s, worker))
            return lines
        finally:
            await worker.end()


def _wait_for_index(worker: WorkerProcess) -> None:
    while worker.alive and INDEXED not in worker.log.read_text():
        time.sleep(POLL_S)


def _line(what: str, began_s: float, worker: WorkerProcess) -> str:
    used_s = cpu_s(worker.process.pid)
    return f"{what:20s} after {time.monotonic() - began_s:6.1f} s, {used_s:6.1f} s of the worker's CPU"


def main() -> int:
    """Measure as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python load_tests/bench_start.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--items", type=int, default=100_000, help="default %(default)s")
    parser.add_argument("--index", action="store_true", help="wait for the index of all vectors too")
    parser.add_argument("--worker", default=THIS_BUILD, metavar="COMMAND", help="the build to be measured")
    given = parser.parse_args()
    with servers() as (stack, folder):
        print("\n".join(asyncio.run(start(stack, folder, given))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
