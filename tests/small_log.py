"""A small seeded log of the built-in shop, and its sessions: the same on every machine."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec

from stream.core.events import ClickMessage
from stream.core.items import FloatArray
from stream.evaluation.log import BadRows, read_log
from stream.evaluation.sessions import Session
from stream.fakes import HashEncoder
from stream.importers.synthetic import make_events, make_items

START_MS = 1_704_067_200_000  # 2024-01-01
GAP_MS = 60_000
COLUMNS = ("user_id", "item_id", "time", "type", "session_id", "title", "price")


def write_log(path: Path, events: int = 3_000, seed: int = 1, columns: tuple[str, ...] = COLUMNS) -> Path:
    """Write the first events of a seeded shop as CSV, a minute apart."""
    items = make_items(seed, per_category=8)
    titles = {item.item_id: item.title for item in items}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        made = make_events(items, seed, shoppers=40, start_ms=START_MS, gap_ms=GAP_MS)
        for _, event in zip(range(events), made, strict=False):
            if isinstance(event, ClickMessage):
                assert event.item_id is not None
                known = msgspec.structs.asdict(event)
                cells = {**known, "time": event.event_time, "type": event.event_type}
                cells["title"] = titles[event.item_id]
                writer.writerow([cells[name] for name in COLUMNS])
    return path


def read_sessions(path: Path) -> list[Session]:
    """The sessions of a log."""
    return read_log([path], BadRows())


def hashed(texts: list[str]) -> dict[str, FloatArray]:
    """Vectors of texts that share words, without a model."""
    import asyncio

    vectors, _ = asyncio.run(HashEncoder().encode(texts, 1.0))
    return dict(zip(texts, vectors, strict=True))
