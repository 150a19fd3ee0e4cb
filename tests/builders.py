"""Messages, events and shops for the tests, so that each test says only what matters to it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from stream.core.events import (
    ClickEvent,
    Event,
    SearchEvent,
    Source,
    decode_click,
    decode_search,
)
from stream.core.items import DIMENSIONS, FloatArray, Item
from stream.core.policy import MINUTE_MS
from stream.ports import ItemVector, Place, RawMessage

NOW_MS = 1_790_000_000_000
"""When tests happen: 2026-09-21, epoch milliseconds."""


def source(offset: int = 0, topic: str = "clicks", partition: int = 0, timestamp_ms: int = NOW_MS) -> Source:
    """Where a message lies; appended now."""
    return Source(topic, partition, offset, timestamp_ms)


def without_none(fields: dict[str, Any]) -> bytes:
    """JSON of the fields that are not None."""
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def raw_click(
    user_id: str = "ann",
    item_id: str | None = "mug",
    kind: str = "view_item",
    *,
    offset: int = 0,
    partition: int = 0,
    at_ms: int = NOW_MS,
    appended_ms: int | None = None,
    **more: Any,
) -> RawMessage:
    """A message of `clicks`; its event id is its place in the topic unless given."""
    fields = {
        "event_id": f"c{partition}-{offset}",
        "event_type": kind,
        "event_time": at_ms,
        "user_id": user_id,
        "item_id": item_id,
        **more,
    }
    where = source(offset, "clicks", partition, at_ms if appended_ms is None else appended_ms)
    return RawMessage(where, user_id.encode(), without_none(fields))


def raw_search(
    user_id: str = "ann",
    query: str = "red mug",
    *,
    offset: int = 0,
    partition: int = 0,
    at_ms: int = NOW_MS,
    appended_ms: int | None = None,
    **more: Any,
) -> RawMessage:
    """A message of `searches`."""
    fields = {
        "event_id": f"s{partition}-{offset}",
        "event_time": at_ms,
        "user_id": user_id,
        "search_query": query,
        **more,
    }
    where = source(offset, "searches", partition, at_ms if appended_ms is None else appended_ms)
    return RawMessage(where, user_id.encode(), without_none(fields))


def raw_item(item_id: str, title: str | None = None, *, offset: int = 0, **more: Any) -> RawMessage:
    """A message of `items`; without a title the item's id stands for it."""
    fields = {"item_id": item_id, "title": title or f"{item_id} title", **more}
    return RawMessage(source(offset, "items"), item_id.encode(), without_none(fields))


def raw_removal(item_id: str, *, offset: int = 0) -> RawMessage:
    """A message of `items` that removes an item."""
    return RawMessage(source(offset, "items"), item_id.encode(), None)


def event_of(message: RawMessage) -> Event:
    """The event in a message of `clicks` or `searches`."""
    decode = decode_search if message.source.topic == "searches" else decode_click
    event = decode(*message[:3])
    assert isinstance(event, ClickEvent | SearchEvent)
    return event


def click(*args: Any, **fields: Any) -> Event:
    """A click event; arguments as `raw_click`."""
    return event_of(raw_click(*args, **fields))


def search(*args: Any, **fields: Any) -> Event:
    """A search event; arguments as `raw_search`."""
    return event_of(raw_search(*args, **fields))


def minutes(count: float) -> int:
    """Minutes in milliseconds."""
    return int(count * MINUTE_MS)


def direction(number: int) -> FloatArray:
    """A random vector [384] of length 1, always the same for a number."""
    vector = np.random.default_rng(number).standard_normal(DIMENSIONS).astype(np.float32)
    unit: FloatArray = vector / np.float32(np.linalg.norm(vector))
    return unit


def item_vector(
    item_id: str,
    title: str | None = None,
    *,
    vector: FloatArray | None = None,
    offset: int = 0,
    encoder_version: str = "1",
    **facts: Any,
) -> ItemVector:
    """An item as it travels on `item-vectors`."""
    item = Item(item_id=item_id, title=title or f"{item_id} title", **facts)
    vectors = {} if vector is None else {encoder_version: vector}
    return ItemVector(item, vectors, source(offset, "items"))


class Partitions:
    """Partitions of `clicks` to be read again, each with a message at some offsets only."""

    def __init__(self, offsets: Collection[int]) -> None:
        self.asked: list[Mapping[Place, range]] = []
        self._offsets = offsets

    async def __call__(self, wanted: Mapping[Place, range]) -> list[RawMessage]:
        self.asked.append(wanted)
        return [
            raw_click(offset=offset, partition=partition)
            for (_, partition), some in wanted.items()
            for offset in some
            if offset in self._offsets
        ]
