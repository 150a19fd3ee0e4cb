"""Print what finding the nearest items costs as the catalogue grows: python load_tests/bench_retrieval.py

Example:

    python load_tests/bench_retrieval.py --sizes 10000,100000,1000000 --threads 8

For each size: CPU of one search as a list makes it (three vectors, the 100 nearest of each, the best of the
index compared exactly) and how often that of the first size it is, the share of the 100 truly nearest that
it finds, bytes of an item in memory (the graph, and the vector beside it that features are computed from),
and what adding an item costs. All sizes are searched in turn, each round for other vectors: what else the
machine does moves ratios less than times. Vectors are made up and seeded: groups within groups, with as many
independent directions as the texts of a shop have, since directions at random are near to nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the worker runs; before numpy is loaded
# Not the checkout's root: its folder `triton` on the path would shadow the package of that name.
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from bench_worker import spread

from stream.adapters.usearch_index import UsearchIndex
from stream.catalog.vector_space import LOADED_AT_ONCE, VectorSpace
from stream.cli.progress import progress_bar
from stream.core.items import DIMENSIONS, FloatArray
from stream.core.vectors import near_together
from stream.lists.list_context import NEAREST

DIRECTIONS = 60
"""Independent ones, of falling weight: the spectrum of the encoder's vectors of a shop is about so."""
GROUPS = (40, 2_000)
SPREADS = (1.0, 0.8, 0.7)
"""Of the groups, the groups within them, and the items there."""
VECTORS_A_LIST = 3


def made_up(count: int, random: np.random.Generator, shop: np.random.Generator) -> FloatArray:
    """Unit vectors [count, 384] of one shop.

    Args:
        random: chooses the items.
        shop: makes the groups; the same for all that belong together.
    """
    weights = 1.0 / np.sqrt(1.0 + np.arange(DIRECTIONS, dtype=np.float32) / 4)
    axes = np.linalg.qr(shop.standard_normal((DIMENSIONS, DIRECTIONS)))[0].astype(np.float32)
    outer = shop.standard_normal((GROUPS[0], DIRECTIONS)).astype(np.float32)
    inner_of = shop.integers(GROUPS[0], size=GROUPS[1])
    inner = shop.standard_normal((GROUPS[1], DIRECTIONS)).astype(np.float32)
    inner = SPREADS[0] * outer[inner_of] + SPREADS[1] * inner
    popular = shop.pareto(1.2, GROUPS[1]) + 0.05
    chosen = random.choice(GROUPS[1], size=count, p=popular / popular.sum())
    own = random.standard_normal((count, DIRECTIONS)).astype(np.float32)
    vectors: FloatArray = ((inner[chosen] + SPREADS[2] * own) * weights) @ axes.T
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def nearest(vectors: FloatArray, asked: FloatArray) -> list[set[int]]:
    """The truly nearest of each, by comparing with all."""
    found = []
    for one in asked:
        cosines = vectors @ one
        found.append(set(np.argpartition(-cosines, NEAREST)[:NEAREST].tolist()))
    return found


class Built(NamedTuple):
    """A shop's index: what it takes a vector, and what adding one cost."""

    space: VectorSpace
    graph_bytes: float
    add_us: float


def build(size: int, threads: int) -> Built:
    """Make the index of a shop as a worker makes it."""
    vectors = made_up(size, np.random.default_rng(3), np.random.default_rng(1))
    index = UsearchIndex()
    began_s = time.process_time()
    slots = near_together(np.arange(size, dtype=np.int32), vectors)
    for start in range(0, size, LOADED_AT_ONCE):
        some = slots[start : start + LOADED_AT_ONCE]
        index.load(some, vectors[some], threads=threads)
    add_us = (time.process_time() - began_s) / size * 1e6
    space = VectorSpace("made up", lambda: index)
    space.vectors, space.has_vector = vectors, np.ones(size, np.bool_)
    return Built(space, index.memory_bytes / size, add_us)


def search_ms(space: VectorSpace, asked: FloatArray) -> float:
    """CPU of one search as a list makes it."""
    began_s = time.process_time()
    for start in range(0, len(asked), VECTORS_A_LIST):
        space.search(asked[start : start + VECTORS_A_LIST], NEAREST)
    return (time.process_time() - began_s) / (len(asked) / VECTORS_A_LIST) * 1e3


def recall(space: VectorSpace, asked: FloatArray) -> float:
    """The share of the truly nearest that is found."""
    found = [set(slots.tolist()) for slots, _ in space.search(asked, NEAREST)]
    true = nearest(space.vectors, asked)
    return float(np.mean([len(one & other) / NEAREST for one, other in zip(found, true, strict=True)]))


def main() -> None:
    """Measure as the command line says and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=lambda text: [int(size) for size in text.split(",")], default=[10_000, 100_000]
    )
    parser.add_argument("--threads", type=int, default=1, help="that build the graph (default %(default)s)")
    parser.add_argument("--searches", type=int, default=500, help="of each round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--asked", type=int, default=200, help="vectors that recall is taken of")
    given = parser.parse_args()
    asked = made_up(
        given.rounds * given.searches * VECTORS_A_LIST, np.random.default_rng(2), np.random.default_rng(1)
    )
    with progress_bar("bench", len(given.sizes) + given.rounds) as told:
        built = []
        for size in given.sizes:
            told(len(built), f"indexing {size} items")
            built.append(build(size, given.threads))
        rounds = []
        for number, queries in enumerate(np.split(asked, given.rounds)):
            told(len(built) + number, "searching")
            rounds.append([search_ms(one.space, queries) for one in built])
    print("    items  ms of CPU a search    of the first         recall@100  graph, vector, bytes  µs to add")
    some = asked[:: max(1, len(asked) // given.asked)][: given.asked]
    for size, one, took_ms in zip(given.sizes, built, zip(*rounds, strict=True), strict=True):
        of_first = [ms / first[0] for ms, first in zip(took_ms, rounds, strict=True)]
        vector_bytes = one.space.vectors.nbytes / size
        print(
            f"{size:9d}  {spread(took_ms):21s}  {spread(of_first):20s} {recall(one.space, some):10.3f}"
            f"  {one.graph_bytes:12.0f}  {vector_bytes:6.0f}  {one.add_us:9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
