"""Print what it costs to read a catalogue into memory: python load_tests/bench_catalogue.py

Example:

    python load_tests/bench_catalogue.py --items 100000

What a worker that starts does before it can make a list, without servers and in this process: decode the
records of `item-vectors` and take them into the table of items, the words and the vectors. Then, what it
does beside the lists: make the index of the vectors. The catalogue is made up and seeded.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Not the checkout's root: its folder `triton` on the path would shadow the package of that name.
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from bench_retrieval import VECTORS_A_LIST, made_up

from stream.adapters import vector_record
from stream.adapters.kafka_follower import MAX_RECORDS
from stream.adapters.lexical_index import LexicalIndex
from stream.adapters.usearch_index import UsearchIndex
from stream.catalog.view import CatalogView
from stream.core.events import Source
from stream.core.items import Item
from stream.importers.synthetic import make_items
from stream.lists.list_context import LEXICAL, NEAREST
from stream.models.version_control import read_vectors
from stream.ports import ItemVector
from stream.telemetry.metrics import Telemetry

ENCODER_VERSION = "2"


def products(count: int) -> Iterator[Item]:
    """The demo's products again and again, with words of their own."""
    known = make_items()
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghiklmnoprstu", k=rng.randint(3, 9))) for _ in range(20_000)]
    for number in range(count):
        product = known[number % len(known)]
        yield Item(
            item_id=f"item-{number:07d}",
            title=f"{product.title} {rng.choice(words)}",
            description=f"{product.description} {' '.join(rng.choices(words, k=12))}",
            category=" > ".join(product.category or ()),
            brand=product.brand or "",
            price=product.price,
        )


def records(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of `item-vectors`: made-up products, each with a vector."""
    vectors = made_up(count, np.random.default_rng(3), np.random.default_rng(1))
    for number, (item, vector) in enumerate(zip(products(count), vectors, strict=True)):
        made = ItemVector(item, {ENCODER_VERSION: vector}, Source("items", 0, number, 0))
        yield item.item_id.encode(), vector_record.encode(made)


def reading(count: int) -> list[str]:
    """Read a catalogue without servers; the figures as lines."""
    laid = list(records(count))
    view = CatalogView(UsearchIndex, LexicalIndex(), Telemetry(), collecting=True)
    asked = made_up(VECTORS_A_LIST, np.random.default_rng(2), np.random.default_rng(1))
    lines = [f"{count} items, records of {len(laid[0][1])} bytes"]
    began_s, used_s = time.monotonic(), time.process_time()

    def told(what: str) -> None:
        took_s, cpu_s = time.monotonic() - began_s, time.process_time() - used_s
        lines.append(f"{what:20s} after {took_s:6.1f} s, {cpu_s:6.1f} s of CPU")

    for start in range(0, count, MAX_RECORDS):
        view.apply(read_vectors(laid[start : start + MAX_RECORDS]))
    view.settle()
    told("read")
    view.space.search(asked, NEAREST)
    view.matching("red mug", LEXICAL)
    told("searched once")
    asyncio.run(view.index())
    told("indexed")
    return lines


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python load_tests/bench_catalogue.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--items", type=int, default=10_000, help="default %(default)s")
    print("\n".join(reading(parser.parse_args().items)))


if __name__ == "__main__":
    main()
