"""What a catalogue takes of a worker, without servers: memory, and CPU time to read it."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from stream.adapters.lexical_index import LexicalIndex
from stream.adapters.usearch_index import UsearchIndex
from stream.catalog.view import CatalogView
from stream.core.events import Source
from stream.core.items import DIMENSIONS, Item
from stream.core.versions import Serving
from stream.importers import synthetic
from stream.planning.run import CatalogueReading
from stream.ports import ItemVector
from stream.telemetry.metrics import Telemetry

AT_ONCE = 500
VERSION = "1"


def made_up(count: int, encoder: str, cross_encoder: str) -> Iterator[ItemVector]:
    """Products with texts of the built-in shop and vectors by chance, read by the cross-encoder already."""
    templates = synthetic.make_items()
    rng = np.random.default_rng(1)
    for number in range(count):
        like = templates[number % len(templates)]
        vector = rng.standard_normal(DIMENSIONS, np.float32)
        item = Item(
            item_id=f"more-{number:07d}",
            title=f"{like.title} {number:07d}",
            description=like.description or "",
            category=" > ".join(like.category or ()),
            brand=like.brand or "",
            price=like.price,
            fit=1.0,
            fit_version=cross_encoder,
        )
        yield ItemVector(item, {encoder: vector / np.linalg.norm(vector)}, Source("items", 0, number, 0))


def read_catalogues(sizes: Sequence[int]) -> tuple[CatalogueReading, ...]:
    """Read so many made-up products as a worker does, once, and look at each of the sizes on the way."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_read, sorted(sizes)).result()


def _read(sizes: Sequence[int]) -> tuple[CatalogueReading, ...]:
    view = CatalogView(UsearchIndex, LexicalIndex(), Telemetry())
    view.serve(Serving(VERSION))
    before = _resident_bytes()
    products = made_up(sizes[-1], VERSION, VERSION)
    readings = []
    read, spent_s = 0, 0.0
    for size in sizes:
        while read < size:
            batch = [(one.item.item_id, one) for one in islice(products, min(AT_ONCE, size - read))]
            began_s = time.process_time()
            view.apply(batch)
            spent_s += time.process_time() - began_s
            read += len(batch)
        began_s = time.process_time()
        view.settle()
        spent_s += time.process_time() - began_s
        readings.append(CatalogueReading(size, _resident_bytes() - before, round(spent_s, 3)))
    return tuple(readings)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
