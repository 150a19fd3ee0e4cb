"""What is not known of a group's offsets is never taken for a group that has none."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from stream.adapters import kafka_offsets
from stream.config import load_config
from stream.errors import Unavailable


def test_a_group_whose_offsets_the_broker_still_loads_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka gives an empty answer then. No broker can be made to load for long, hence a stand-in."""

    async def list_consumer_group_offsets(*_: Any, **__: Any) -> dict[Any, Any]:
        return {}

    @asynccontextmanager
    async def admin(_: Any) -> Any:
        yield SimpleNamespace(list_consumer_group_offsets=list_consumer_group_offsets)

    monkeypatch.setattr(kafka_offsets, "admin", admin)
    with pytest.raises(Unavailable, match="does not tell yet how far shop is in 2 of its partitions"):
        asyncio.run(
            kafka_offsets.read_logs(load_config(env={}).kafka, "shop", [("clicks", 0), ("clicks", 1)])
        )
