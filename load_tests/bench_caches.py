"""Print what each cache earns under shoppers and searches as Zipf has them: python load_tests/bench_caches.py

Example:

    python load_tests/bench_caches.py --events 3000 --cross-encoder 10

Starts Kafka, Redis and Triton of its own, and a worker with the demo's products. Shoppers act as those of the
load tests do: few do much and few products are looked at often, both by Zipf's law, and 15 of 100 events are
searches with words of products' titles. For each of the worker's caches: how often lists looked into it, how
often it had the answer, and how long one that it had not was waited for. For Triton's response cache: how
often it had an answer that the worker's own caches had not, and the time that Triton says it spent on both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Not the checkout's root: its folder `triton` on the path would shadow the package of that name.
sys.path.insert(0, str(Path(__file__).parent))

import msgspec
from bench_worker import STEP_MS, THIS_BUILD, Worker, servers, sums
from traffic.arrivals import SEARCH, arrivals
from traffic.profiles import PROFILES
from traffic.shoppers import Product, Shoppers

from stream.core.events import ClickMessage, ItemMessage, SearchMessage
from stream.importers.synthetic import make_items
from stream.local.stack import Stack

CACHES = {"queries": "encode", "pairs": "cross_encode", "rows": "load"}
"""The caches of a worker, and the stage in which what is not there is waited for."""
COUNTED = tuple(
    f"nv_cache_{what}_per_model_total/encoder"
    for what in ("num_hits", "num_misses", "hit_duration", "miss_duration")
)


def zipf_events(
    items: list[ItemMessage], count: int, shoppers: int, seed: int
) -> Iterator[ClickMessage | SearchMessage]:
    """Make events as the load tests do, that end now."""
    products = [Product(item.item_id, item.title) for item in items]
    made = Shoppers(f"caches-{seed}", products)
    stream = arrivals(
        PROFILES["steady"], 1.0, 2.0 * count + 100.0, seed=seed, shoppers=shoppers, items=len(items)
    )
    first_ms = time.time_ns() // 1_000_000 - count * STEP_MS
    for arrival in stream:
        if arrival.number == count:
            return
        kind = SearchMessage if arrival.act == SEARCH else ClickMessage
        yield msgspec.json.decode(made.message(arrival, first_ms + arrival.number * STEP_MS).value, type=kind)


async def measure(stack: Stack, folder: Path, given: argparse.Namespace) -> list[str]:
    """Have a worker take all events; the figures as lines."""
    items = make_items()
    worker = Worker(stack, folder, shlex.split(given.worker), items)
    await worker.start()
    try:
        before = sums(stack.endpoints.metrics)
        phase = await worker.take(zipf_events(items, given.events, given.shoppers, given.seed))
        found = sums(worker.metrics_url)
        after = sums(stack.endpoints.metrics)
    finally:
        await worker.stop()
    lines = [f"{given.events} events of {given.shoppers} shoppers, {phase.lists:.0f} lists"]
    for cache, stage in CACHES.items():
        hits = found.get(f"streamrec_cache_lookups_total/{cache}/hit", 0.0)
        misses = found.get(f"streamrec_cache_lookups_total/{cache}/miss", 0.0)
        waited_s = found.get(f"streamrec_stage_seconds_sum/{stage}", 0.0)
        lines.append(
            f"  {cache + ':':9s} {hits + misses:7.0f} looked up, {_share(hits, hits + misses)} known; "
            f"{waited_s / misses * 1e3 if misses else 0:.2f} ms of the stage `{stage}` for each that was not"
        )
    hits, misses, hit_us, miss_us = (after.get(name, 0.0) - before.get(name, 0.0) for name in COUNTED)
    lines.append(
        f"  Triton, encoder: {hits + misses:.0f} asked, {_share(hits, hits + misses)} known; "
        f"{hit_us / 1e3:.1f} ms for those, {miss_us / 1e3:.1f} ms for looking up and keeping the others"
    )
    return lines


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "none"


def main() -> int:
    """Measure as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python load_tests/bench_caches.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, default=3_000, help="default %(default)s")
    parser.add_argument("--shoppers", type=int, default=1_000, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="chooses who does what")
    parser.add_argument(
        "--cross-encoder",
        type=int,
        default=0,
        help="candidates of a search that it reads (default %(default)s)",
    )
    parser.add_argument("--worker", default=THIS_BUILD, metavar="COMMAND", help="the build to be measured")
    given = parser.parse_args()
    os.environ["STREAMREC_TRITON__CROSS_ENCODER_BEST"] = str(given.cross_encoder)  # for the worker
    with servers() as (stack, folder):
        print("\n".join(asyncio.run(measure(stack, folder, given))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
