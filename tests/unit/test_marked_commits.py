"""An end of a partition that lies before its mark tells of a topic made anew, or of an open transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from yarl import URL

from stream.config import Config, Kafka
from stream.core.marks import Log
from stream.fakes import MemoryMarkStore
from stream.healing import marked_commits
from stream.healing.marked_commits import MarkedCommits
from stream.healing.marks import Marks
from stream.healing.passed_over import PassedOver
from stream.ports import Place
from stream.telemetry.metrics import Telemetry

PLACE = "clicks", 0


class Consumer:
    """Owns the partition, of which so much can be read."""

    def __init__(self, readable: int) -> None:
        self.readable = readable

    def assignment(self) -> set[TP]:
        return {TP(*PLACE)}

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, self.readable)


@pytest.mark.parametrize(
    ("readable", "end", "anew"),
    [(7, 7, False), (5, 7, False), (5, 8, False), (5, 5, True)],
    ids=[
        "all can be read",
        "a transaction is open",
        "an open one holds more",
        "the topic is another one",
    ],
)
def test_a_topic_was_made_anew_where_its_very_end_lies_before_what_was_saved(
    monkeypatch: pytest.MonkeyPatch, readable: int, end: int, anew: bool
) -> None:
    asked: list[list[Place]] = []

    async def read_logs(kafka: Kafka, group: str, places: Collection[Place]) -> dict[Place, Log]:
        asked.append(list(places))
        return {place: Log(0, end) for place in places}

    async def nobody(_: Any) -> list[Any]:
        return []

    async def scenario() -> None:
        telemetry = Telemetry()
        marks = Marks(MemoryMarkStore(), telemetry, lambda: 1)
        await marks.begin({PLACE: Log(7, 7)})
        app = SimpleNamespace(
            conf=SimpleNamespace(broker_consumer=[URL("kafka://localhost")]),
            consumer=Consumer(readable),
            on_rebalance_complete=SimpleNamespace(connect=lambda _: None),
            rebalancing=True,
            should_stop=False,
        )
        passed_over = PassedOver(nobody, telemetry, marks.stale)
        await MarkedCommits(app, marks, passed_over, Config(), "group", "clicks").check()  # type: ignore[arg-type]
        assert marks.stale.is_set() is anew

    monkeypatch.setattr(marked_commits, "read_logs", read_logs)
    asyncio.run(scenario())
    assert asked == [[PLACE] if readable < 7 else []]
