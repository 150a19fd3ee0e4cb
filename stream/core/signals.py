"""What is learnt about items from what shoppers do: popularity and directional co-visitation.

One event leads to a few `Increment`s (`increments`), each addressed to one item. They travel on the
topic `item-signals`, keyed by item, and are folded there into one bounded row per item (`fold`).

Exactly once: an increment carries the source and the offset of the event that caused it, and a row
remembers the last offset it took from each source. Increments of one source reach an item in offset
order, so whatever is not newer is a repetition. For this to lose nothing, a batch sends its increments
before it saves the states they were computed from: after a crash in between, the same states and the
same events lead to the same increments again.

Decay without rewriting: an increment of weight w at time t counts w * 2^(t/h), for a half-life h, and
a row holds log2 of the sum, so weights of the same time axis compare as they stand and nothing
overflows for as long as dates go. The weight at a time `now` is 2^(L - now/h). An event that comes late
simply adds less. (Forward decay: Cormode, Shkapenyuk, Srivastava and Xu, "Forward decay: a practical
time decay model for streaming systems", ICDE 2009.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.events import EVENT_TYPES, ClickEvent, Event
from stream.core.items import FloatArray, IntArray, ItemTable
from stream.core.policy import DAY_MS, Policy
from stream.core.state import REMOVE_FROM_CART, Interaction, UserState, digest_of, session_of
from stream.errors import StreamrecError

VERSION = 1
NEGLIGIBLE = -math.inf
"""log2 of a weight of nothing."""

POPULARITY_DAYS = (1.0, 10.0, 30.0, 120.0)
"""Half-lives at which popularity is kept; the first is what trends. Logarithms compare as they stand."""
NEIGHBOUR_DAYS = 120.0
"""Half-life of co-visitation."""
GAP_DECAY = 0.8
"""What a pair counts less for every item between its two."""
REACH = 12
"""How many items back an event makes pairs; bounds the messages an event leads to."""
MAX_NEIGHBOURS = 160
"""Neighbours in a row; the lightest are dropped."""

_LARGEST = np.float32(30.0)
"""log2 of the largest weight; only a clock that went back by years comes near it."""
_popularity_ms = tuple(days * DAY_MS for days in POPULARITY_DAYS)
_neighbour_ms = NEIGHBOUR_DAYS * DAY_MS


class UnreadableSignals(StreamrecError):
    """Bytes that no version of `encode` wrote, or that were damaged."""


class Increment(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one event adds to one item's row.

    `source` ("clicks/3") and `offset` name the event, `at_ms` is its event time. `forward` are the
    items that came after this one, `backward` those that came before it, each with a weight above 0.
    """

    source: str
    offset: int
    at_ms: int
    popularity: float = 0.0
    forward: list[tuple[str, float]] = []
    backward: list[tuple[str, float]] = []


class ItemSignals(NamedTuple):
    """One item's row; weights are log2 of forward decayed sums.

    `popularity` has one entry for each of `POPULARITY_DAYS`; `forward` and `backward` [n] belong to
    `neighbours`, n <= `MAX_NEIGHBOURS`.
    """

    applied: Mapping[str, int]
    popularity: tuple[float, ...]
    neighbours: tuple[str, ...]
    forward: FloatArray
    backward: FloatArray


class RowView(NamedTuple):
    """A row resolved against an `ItemTable`: neighbours by slot, unknown ones left out.

    Slots stay right until the table's `generation` changes. `popularity` is the row's own at
    `NEIGHBOUR_DAYS`, log2.
    """

    slots: IntArray
    forward: FloatArray
    backward: FloatArray
    popularity: float


_nothing: FloatArray = np.zeros(0, np.float32)
EMPTY = ItemSignals({}, (NEGLIGIBLE,) * len(POPULARITY_DAYS), (), _nothing, _nothing)

_increments_decoder = msgspec.json.Decoder(list[Increment])
_increments_encoder = msgspec.json.Encoder()


def increments(before: UserState, after: UserState, event: Event, policy: Policy) -> dict[str, Increment]:
    """Say what an event teaches about items, given the shopper's state before and after it.

    An item counts when a session first touches it: it gets popularity 1 and pairs with the last `REACH`
    distinct items of the session. Taking an item out of the cart teaches nothing.

    Returns:
        Increments by item id; empty where the event changed nothing (a duplicate, a replay).
        At most one per line of the event and `REACH` more.
    """
    if after is before or not isinstance(event, ClickEvent) or event.event_type == "remove_from_cart":
        return {}
    recent = _recent_items(before, event, policy)
    popularity: set[str] = set()
    forward: dict[str, list[tuple[str, float]]] = {}
    backward: dict[str, list[tuple[str, float]]] = {}
    for line in event.lines:
        if line.item_id in recent:
            continue
        popularity.add(line.item_id)
        for gap, earlier in enumerate(recent[:REACH]):
            weight = GAP_DECAY**gap
            forward.setdefault(earlier, []).append((line.item_id, weight))
            backward.setdefault(line.item_id, []).append((earlier, weight))
        recent.insert(0, line.item_id)
    source = f"{event.source.topic}/{event.source.partition}"
    return {
        item_id: Increment(
            source=source,
            offset=event.source.offset,
            at_ms=event.at_ms,
            popularity=float(item_id in popularity),
            forward=forward.get(item_id, []),
            backward=backward.get(item_id, []),
        )
        for item_id in sorted(popularity | forward.keys())
    }


def fold(row: ItemSignals | None, new: Iterable[Increment]) -> ItemSignals:
    """Add increments to a row; those it already took are skipped.

    Returns:
        The new row, or `row` itself where nothing was new.
    """
    row = EMPTY if row is None else row
    applied = dict(row.applied)
    popularity = list(row.popularity)
    forward: dict[str, float] = {}
    backward: dict[str, float] = {}
    changed = False
    for increment in new:
        if increment.offset <= applied.get(increment.source, -1):
            continue
        changed = True
        applied[increment.source] = increment.offset
        if increment.popularity > 0:
            weight = math.log2(increment.popularity)
            for position, half_life_ms in enumerate(_popularity_ms):
                popularity[position] = _add(popularity[position], weight + increment.at_ms / half_life_ms)
        at = increment.at_ms / _neighbour_ms
        for sums, pairs in ((forward, increment.forward), (backward, increment.backward)):
            for item_id, pair_weight in pairs:
                if pair_weight > 0:
                    sums[item_id] = _add(sums.get(item_id, NEGLIGIBLE), at + math.log2(pair_weight))
    if not changed:
        return row
    return ItemSignals(applied, tuple(popularity), *_merge(row, forward, backward))


def encode(row: ItemSignals) -> bytes:
    """Write a row: one byte with the version, then a msgpack array of its columns."""
    return bytes([VERSION]) + _row_encoder.encode(
        [
            row.applied,
            row.popularity,
            "\x00".join(row.neighbours),  # an item id holds no NUL character
            row.forward.astype("<f4", copy=False).tobytes(),
            row.backward.astype("<f4", copy=False).tobytes(),
        ]
    )


def decode(data: bytes) -> ItemSignals:
    """Read a row.

    Raises:
        UnreadableSignals: the version is unknown or the bytes are damaged.
    """
    if not data or data[0] != VERSION:
        raise UnreadableSignals(f"signals of version {data[0] if data else 'none'}, known: {VERSION}")
    try:
        applied, popularity, names, forward_bytes, backward_bytes = _row_decoder.decode(data[1:])
        neighbours = tuple(names.split("\x00")) if names else ()
        forward = np.frombuffer(forward_bytes, "<f4")
        backward = np.frombuffer(backward_bytes, "<f4")
    except (msgspec.DecodeError, ValueError) as error:
        raise UnreadableSignals(f"damaged signals: {error}") from None
    if not len(neighbours) == len(forward) == len(backward) or len(popularity) != len(POPULARITY_DAYS):
        raise UnreadableSignals("damaged signals: columns of different lengths")
    return ItemSignals(applied, popularity, neighbours, forward, backward)


def encode_increments(new: Sequence[Increment]) -> bytes:
    """Write a message of `item-signals`: a JSON list of increments of one item."""
    return _increments_encoder.encode(new)


def decode_increments(data: bytes) -> list[Increment]:
    """Read a message of `item-signals`.

    Raises:
        UnreadableSignals: it is not a list of increments.
    """
    try:
        return _increments_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise UnreadableSignals(f"damaged increments: {error}") from None


def view(row: ItemSignals, table: ItemTable) -> RowView:
    """Resolve a row's neighbours to slots of the table."""
    found = [table.slot(item_id) for item_id in row.neighbours]
    slots = np.array([-1 if slot is None else slot for slot in found], np.int32)
    known = slots >= 0
    own = row.popularity[POPULARITY_DAYS.index(NEIGHBOUR_DAYS)]
    if known.all():
        return RowView(slots, row.forward, row.backward, own)
    return RowView(slots[known], row.forward[known], row.backward[known], own)


def pack_popularity(row: ItemSignals) -> bytes:
    """Write a row's popularity alone (4 bytes a half-life), which workers follow for all items."""
    return np.array(row.popularity, "<f4").tobytes()


def unpack_popularity(data: bytes) -> NDArray[np.float32]:
    """Read what `pack_popularity` wrote: [len(POPULARITY_DAYS)], log2."""
    return np.frombuffer(data, "<f4")


def popularity_at(log2_popularity: FloatArray, at_ms: int) -> FloatArray:
    """Weights at a time from forward decayed sums [..., len(POPULARITY_DAYS)]; 1 is one event just now."""
    now = np.array([at_ms / half_life_ms for half_life_ms in _popularity_ms])
    weights: FloatArray = np.exp2(np.minimum(log2_popularity - now, _LARGEST)).astype(np.float32)
    return weights


def neighbours_at(log2_weights: FloatArray, at_ms: int) -> FloatArray:
    """Weights at a time from a row's `forward`, `backward` or popularity at `NEIGHBOUR_DAYS`."""
    weights: FloatArray = np.exp2(np.minimum(log2_weights - np.float32(at_ms / _neighbour_ms), _LARGEST))
    return weights


_row_encoder = msgspec.msgpack.Encoder()
_row_decoder = msgspec.msgpack.Decoder(tuple[dict[str, int], tuple[float, ...], str, bytes, bytes])


def _recent_items(before: UserState, event: ClickEvent, policy: Policy) -> list[str]:
    """The distinct items of the event's session up to the event, newest first."""
    earlier = tuple(i for i in before.interactions if i.at_ms <= event.at_ms)
    now = Interaction(
        event.at_ms,
        event.lines[0].item_id,
        EVENT_TYPES.index(event.event_type),
        digest_of(event.session_id, 16) if event.session_id is not None else 0,
        0,
    )
    session = session_of(before._replace(interactions=(*earlier, now)), policy)[:-1]
    return list(dict.fromkeys(i.item_id for i in reversed(session) if i.kind != REMOVE_FROM_CART))


def _add(one: float, other: float) -> float:
    """log2(2^one + 2^other)."""
    if one < other:
        one, other = other, one
    if other == NEGLIGIBLE:
        return one
    return one + math.log2(1.0 + 2.0 ** (other - one))


def _merge(
    row: ItemSignals, forward: dict[str, float], backward: dict[str, float]
) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """Add sums by neighbour to a row's columns and drop the lightest beyond the bound."""
    if not forward and not backward:
        return row.neighbours, row.forward, row.backward
    positions = {item_id: position for position, item_id in enumerate(row.neighbours)}
    for item_id in (*forward, *backward):
        positions.setdefault(item_id, len(positions))
    names = tuple(positions)
    columns = np.full((2, len(names)), NEGLIGIBLE, np.float32)
    columns[0, : len(row.forward)] = row.forward
    columns[1, : len(row.backward)] = row.backward
    for column, sums in zip(columns, (forward, backward), strict=True):
        for item_id, weight in sums.items():
            position = positions[item_id]
            column[position] = _add(float(column[position]), weight)
    surplus = len(names) - MAX_NEIGHBOURS
    if surplus > 0:
        kept = np.ones(len(names), np.bool_)
        kept[np.argpartition(columns.max(axis=0), surplus)[:surplus]] = False
        names = tuple(compress(names, kept.tolist()))
        columns = columns[:, kept]
    return names, columns[0], columns[1]
