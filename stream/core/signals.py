"""What is learnt about items from what shoppers do: popularity, co-visitation, and glimpses of sessions.

One event leads to a few `Increment`s (`increments`), each addressed to one item. They travel on the
topic `item-signals`, in the partition that the item's id gives as a key: what a batch of events teaches about
the items of one partition is one message. There they are folded into one bounded row per item (`fold`).

Exactly once: an increment carries the source and the offset of the event that caused it, and a row
remembers the last offset it took from each source. Increments of one source reach an item in offset
order, so whatever is not newer is a repetition. For this to lose nothing, a batch sends its increments
before it saves the states they were computed from: after a crash in between, the same states and the
same events lead to the same increments again.

Private: a shopper counts for an item, and for a pair of items, at most once a day, as far as the state
reaches back, and teaches nothing where it reaches no further back than that day. Each neighbour has
a small sketch of how many shoppers brought it; `view` hides those of too few.

Decay without rewriting: an increment of weight w at time t counts w * 2^(t/h), for a half-life h, and
a row holds log2 of the sum, so weights of the same time axis compare as they stand and nothing
overflows for as long as dates go. The weight at a time `now` is 2^(L - now/h). An event that comes late
simply adds less. (Forward decay: Cormode, Shkapenyuk, Srivastava and Xu, "Forward decay: a practical
time decay model for streaming systems", ICDE 2009.)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from types import GenericAlias
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.events import EVENT_TYPES, ClickEvent, Event
from stream.core.items import FloatArray, IntArray, ItemTable
from stream.core.policy import DAY_MS, Policy
from stream.core.state import REMOVE_FROM_CART, Interaction, UserState, digest_of, session_of
from stream.errors import StreamrecError

VERSION = 3
NEGLIGIBLE = -math.inf
"""log2 of a weight of nothing."""

POPULARITY_DAYS = (1.0, 10.0, 30.0, 120.0)
"""Half-lives at which popularity is kept; the first is what trends. Logarithms compare as they stand."""
NEIGHBOUR_DAYS = 120.0
"""Half-life of co-visitation."""
RECENT_DAYS = 30.0
"""Half-life of what is in fashion together; both directions in one weight."""
BACKWARD = 0.5
"""What "came before" counts beside "came after" where both are one weight."""
GAP_DECAY = 0.8
"""What a pair counts less for every item between its two."""
REACH = 12
"""How many items back an event makes pairs; bounds the messages an event leads to."""
MAX_NEIGHBOURS = 254
"""Neighbours in a row; the lightest are dropped."""
MESSAGE_BYTES = 500_000
"""Of a message of increments; what is more goes into further ones. Brokers take a million by default."""
MAX_ROW_BYTES = 8_000
"""Size of a row as stored; where ids are long, fewer neighbours are kept."""
GLIMPSES = 32
"""The last sessions with an item of which a row remembers what was near the item."""
NEAR = 6
"""How many items before and after it are remembered."""
NOBODY = 255
"""In a glimpse, the place of an item that is no neighbour of the row."""
SHOPPER_BITS = 16
"""Bits of a neighbour's sketch. A shopper sets one of them, so that the bits set are never more than the
shoppers there were: of 2 shoppers both are seen in 15 of 16 cases, 5 bits take 5.9 shoppers in the mean."""

_LARGEST = np.float32(30.0)
"""log2 of the largest weight; only a clock that went back by years comes near it."""
_popularity_ms = tuple(days * DAY_MS for days in POPULARITY_DAYS)
_neighbour_ms = NEIGHBOUR_DAYS * DAY_MS
_recent_ms = RECENT_DAYS * DAY_MS
_column_ms = (_neighbour_ms, _neighbour_ms, _recent_ms, _neighbour_ms)
_log_gap_decay = math.log(GAP_DECAY)
_GLIMPSE_BYTES = 8 + 2 * NEAR
_COLUMN_BYTES = 4 * 4 + 2
_bits = np.array([number.bit_count() for number in range(1 << SHOPPER_BITS)], np.uint8)


class UnreadableSignals(StreamrecError):
    """Bytes that no version of `encode` wrote, or that were damaged."""


class Increment(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one event adds to one item's row.

    `source` ("clicks/3"; "clicks/3@LIFE" once the topic was made anew) and `offset` name the event, `at_ms`
    is its event time. `forward` are the
    items that came after this one, `backward` those that came before it, each with a weight above 0:
    `GAP_DECAY` to the power of the number of items between them. `session` is a digest of the session they
    share, 0 where it is not told. `shopper` is the bit that the shopper sets in this item's sketches, from 1
    to `SHOPPER_BITS`, 0 where it is not told; another one for another item, so that it names nobody.
    """

    source: str
    offset: int
    at_ms: int
    popularity: float = 0.0
    forward: list[tuple[str, float]] = []
    backward: list[tuple[str, float]] = []
    session: int = 0
    shopper: int = 0


class Taught(msgspec.Struct, frozen=True):
    """What events teach about one item."""

    item_id: Annotated[str, msgspec.Meta(min_length=1)]
    increments: list[Increment]


class _Message(msgspec.Struct, frozen=True):
    """A message of `item-signals` as it is written; items may come more than once."""

    items: list[Taught]


class _Encoded(msgspec.Struct, frozen=True):
    """The same, with `Taught` encoded."""

    items: list[msgspec.Raw]


class ItemSignals(NamedTuple):
    """One item's row; weights are log2 of forward decayed sums.

    `popularity` has one entry for each of `POPULARITY_DAYS`; `forward`, `backward`, `recent` (both at
    `RECENT_DAYS`) and `next` (what came right after) [n] belong to `neighbours`, n <= `MAX_NEIGHBOURS`, and
    so do the sketches `shoppers` [n]: bits that shoppers who brought the neighbour have set.
    Of the last sessions m <= `GLIMPSES` with the item, newest first, `sessions` [m] are digests, `seen_s` [m]
    when it was last heard of in seconds, and `around` [m, 2 * NEAR] what was near it there: the places
    among `neighbours` of the item `NEAR` before it to that right before, then from that right after on.
    """

    applied: Mapping[str, int]
    popularity: tuple[float, ...]
    neighbours: tuple[str, ...]
    forward: FloatArray
    backward: FloatArray
    recent: FloatArray
    next: FloatArray
    shoppers: NDArray[np.uint16]
    sessions: NDArray[np.uint32]
    seen_s: NDArray[np.uint32]
    around: NDArray[np.uint8]


class RowView(NamedTuple):
    """A row resolved against an `ItemTable`: neighbours by slot, unknown ones and those of too few left out.

    Slots stay right until the table's `generation` changes. `popularity` is the row's own at
    `NEIGHBOUR_DAYS`, log2. `around` [m, 2 * NEAR] holds slots too, -1 for nothing known.
    """

    slots: IntArray
    forward: FloatArray
    backward: FloatArray
    popularity: float
    recent: FloatArray
    next: FloatArray
    seen_s: NDArray[np.uint32]
    around: IntArray


_nothing: FloatArray = np.zeros(0, np.float32)
_nowhen: NDArray[np.uint32] = np.zeros(0, np.uint32)
EMPTY = ItemSignals(
    {},
    (NEGLIGIBLE,) * len(POPULARITY_DAYS),
    (),
    *(_nothing,) * 4,
    np.zeros(0, np.uint16),
    _nowhen,
    _nowhen,
    np.zeros((0, 2 * NEAR), np.uint8),
)

_increments_decoder = msgspec.json.Decoder(_Message | list[Increment])
_increments_encoder = msgspec.json.Encoder()


def increments(
    before: UserState, after: UserState, event: Event, policy: Policy, life: int = 0
) -> dict[str, Increment]:
    """Say what an event teaches about items, given the shopper's state before and after it.

    An item counts when a session first touches it and the shopper did nothing with it on that day (UTC): it
    gets popularity 1 and pairs with the last `REACH` distinct items of the session. Taking an item out of the
    cart teaches nothing.

    Args:
        life: which topic of its name the event lay in (`stream.core.marks.Mark`).

    Returns:
        Increments by item id; empty where the event changed nothing (a duplicate, a replay), and where the
        state is full of the event's day and later ones, so that nothing tells what had counted.
        At most one per line of the event and `REACH` more.
    """
    if after is before or not isinstance(event, ClickEvent) or event.event_type == "remove_from_cart":
        return {}
    day_ms = event.at_ms - event.at_ms % DAY_MS
    if len(before.interactions) >= policy.interactions_kept and before.interactions[0].at_ms >= day_ms:
        return {}
    today = {i.item_id for i in before.interactions if day_ms <= i.at_ms < day_ms + DAY_MS}
    recent, session = _recent_items(before, event, policy)
    popularity: set[str] = set()
    forward: dict[str, list[tuple[str, float]]] = {}
    backward: dict[str, list[tuple[str, float]]] = {}
    for line in event.lines:
        if line.item_id in recent:
            continue
        if line.item_id not in today:
            popularity.add(line.item_id)
            for gap, earlier in enumerate(recent[:REACH]):
                weight = GAP_DECAY**gap
                forward.setdefault(earlier, []).append((line.item_id, weight))
                backward.setdefault(line.item_id, []).append((earlier, weight))
        recent.insert(0, line.item_id)
    source = f"{event.source.topic}/{event.source.partition}" + f"@{life}" * bool(life)
    return {
        item_id: Increment(
            source=source,
            offset=event.source.offset,
            at_ms=event.at_ms,
            popularity=float(item_id in popularity),
            forward=forward.get(item_id, []),
            backward=backward.get(item_id, []),
            session=session,
            shopper=_bit_of(event.user_id, item_id),
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
    taken = []
    for increment in new:
        if increment.offset <= applied.get(increment.source, -1):
            continue
        if increment.source not in applied:
            partition, life = _life_of(increment.source)
            former = [name for name in applied if _life_of(name)[0] == partition]
            if any(_life_of(name)[1] > life for name in former):
                continue  # redelivered, of a topic that was made anew since
            applied = {name: at for name, at in applied.items() if name not in former}
        taken.append(increment)
        applied[increment.source] = increment.offset
        if increment.popularity > 0:
            weight = math.log2(increment.popularity)
            for position, half_life_ms in enumerate(_popularity_ms):
                popularity[position] = _add(popularity[position], weight + increment.at_ms / half_life_ms)
    if not taken:
        return row
    return _merge(row._replace(applied=applied, popularity=tuple(popularity)), taken)


def encode(row: ItemSignals) -> bytes:
    """Write a row: one byte with the version, then a msgpack array of its columns."""
    return (
        bytes([VERSION])
        + _row_encoder.encode(
            [
                row.applied,
                row.popularity,
                "\x00".join(row.neighbours),  # an item id holds no NUL character
                *(column.astype("<f4", copy=False).tobytes() for column in row[3:7]),
                row.shoppers.astype("<u2", copy=False).tobytes(),
                row.sessions.astype("<u4", copy=False).tobytes(),
                row.seen_s.astype("<u4", copy=False).tobytes(),
                row.around.tobytes(),
            ]
        )
    )


def decode(data: bytes) -> ItemSignals:
    """Read a row of this version or of an earlier one, which knew less: nothing of how many shoppers.

    Raises:
        UnreadableSignals: the version is unknown or the bytes are damaged.
    """
    if not data or not 1 <= data[0] <= VERSION:
        raise UnreadableSignals(f"signals of version {data[0] if data else 'none'}, known: 1 to {VERSION}")
    try:
        applied, popularity, names, *rest = _row_decoders[data[0]].decode(data[1:])
        columns = [np.frombuffer(part, "<f4") for part in rest[:4]]
        if data[0] == 1:
            columns += [np.full(len(columns[0]), NEGLIGIBLE, np.float32)] * 2
            rest += [b""] * 6
        elif data[0] == 2:
            rest.insert(4, b"")
        shoppers = np.frombuffer(rest[4], "<u2") if data[0] == 3 else np.zeros(len(columns[0]), np.uint16)
        sessions, seen_s = (np.frombuffer(part, "<u4") for part in rest[5:7])
        around = np.frombuffer(rest[7], np.uint8).reshape(-1, 2 * NEAR)
    except (msgspec.DecodeError, ValueError) as error:
        raise UnreadableSignals(f"damaged signals: {error}") from None
    neighbours = tuple(names.split("\x00")) if names else ()
    if len(popularity) != len(POPULARITY_DAYS) or {*map(len, (*columns, shoppers))} != {len(neighbours)}:
        raise UnreadableSignals("damaged signals: columns of different lengths")
    if not len(sessions) == len(seen_s) == len(around):
        raise UnreadableSignals("damaged signals: glimpses of different lengths")
    if ((around >= len(neighbours)) & (around != NOBODY)).any():
        raise UnreadableSignals("damaged signals: a glimpse of what is no neighbour")
    forward, backward, recent, following = columns
    return ItemSignals(
        *(applied, popularity, neighbours, forward, backward, recent, following, shoppers),
        *(sessions, seen_s, around),
    )


def encode_increments(new: Mapping[str, Sequence[Increment]]) -> list[tuple[str, bytes]]:
    """Write increments of items as messages of `item-signals`.

    Returns:
        As few messages as hold them in `MESSAGE_BYTES` each, with the id of the first item in it.
    """
    messages: list[tuple[str, list[msgspec.Raw]]] = []
    left = 0
    for item_id, increments in new.items():
        part = _increments_encoder.encode(Taught(item_id, list(increments)))
        if len(part) > left:
            messages.append((item_id, []))
            left = MESSAGE_BYTES
        messages[-1][1].append(msgspec.Raw(part))
        left -= len(part)
    return [(first, _increments_encoder.encode(_Encoded(parts))) for first, parts in messages]


def decode_increments(key: bytes | None, data: bytes | None) -> list[Taught]:
    """Read a message of `item-signals`, of this version or of the first: a list, of the item of the key.

    Raises:
        UnreadableSignals: it is neither.
    """
    try:
        message = _increments_decoder.decode(data or b"")
        if isinstance(message, _Message):
            return message.items
        if key:
            return [Taught(key.decode(), message)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableSignals(f"damaged increments: {error}") from None
    raise UnreadableSignals("a list of increments needs a key: the item's id")


def view(row: ItemSignals, table: ItemTable, min_shoppers: int) -> RowView:
    """Resolve a row's neighbours to slots of the table.

    Args:
        min_shoppers: neighbours that fewer shoppers brought are left out, in glimpses too.
    """
    found = [table.slot(item_id) for item_id in row.neighbours]
    slots = np.full(NOBODY + 1, -1, np.int32)  # the last one stands for nobody
    slots[: len(found)] = [-1 if slot is None else slot for slot in found]
    if min_shoppers > 1:
        slots[: len(found)][_bits[row.shoppers] < min_shoppers] = -1
    around = slots[row.around]
    slots = slots[: len(found)]
    own = row.popularity[POPULARITY_DAYS.index(NEIGHBOUR_DAYS)]
    forward, backward, recent, following = row[3:7]
    known = slots >= 0
    if not known.all():
        slots = slots[known]
        forward, backward, recent, following = (column[known] for column in row[3:7])
    return RowView(slots, forward, backward, own, recent, following, row.seen_s, around)


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


def neighbours_at(log2_weights: FloatArray, at_ms: int, half_life_days: float = NEIGHBOUR_DAYS) -> FloatArray:
    """Weights at a time from a row's columns, or from popularity, at a half-life."""
    now = np.float32(at_ms / (half_life_days * DAY_MS))
    weights: FloatArray = np.exp2(np.minimum(log2_weights - now, _LARGEST))
    return weights


_row_encoder = msgspec.msgpack.Encoder()
_row_decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {
    version: msgspec.msgpack.Decoder(
        GenericAlias(tuple, (dict[str, int], tuple[float, ...], str, *(bytes,) * columns))
    )
    for version, columns in ((1, 2), (2, 7), (VERSION, 8))
}


def _recent_items(before: UserState, event: ClickEvent, policy: Policy) -> tuple[list[str], int]:
    """The distinct items of the event's session up to the event, newest first, and its digest."""
    earlier = tuple(i for i in before.interactions if i.at_ms <= event.at_ms)
    now = Interaction(
        event.at_ms,
        event.lines[0].item_id,
        EVENT_TYPES.index(event.event_type),
        digest_of(event.session_id, 16) if event.session_id is not None else 0,
        0,
    )
    session = session_of(before._replace(interactions=(*earlier, now)), policy)
    name = event.session_id if event.session_id is not None else session[0].at_ms
    touched = dict.fromkeys(i.item_id for i in reversed(session[:-1]) if i.kind != REMOVE_FROM_CART)
    return list(touched), digest_of(f"{event.user_id}\n{name}", 32)


def _bit_of(user_id: str, item_id: str) -> int:
    """The bit that a shopper sets in an item's sketches, from 1."""
    digest = hashlib.blake2b(f"{user_id}\n{item_id}".encode(), digest_size=2).digest()
    return int.from_bytes(digest, "big") % SHOPPER_BITS + 1


def _life_of(source: str) -> tuple[str, int]:
    """Which partition an increment's source is, and of which topic of that name."""
    partition, _, life = source.rpartition("@")
    return (partition, int(life)) if partition and life.isdigit() else (source, 0)


def _add(one: float, other: float) -> float:
    """log2(2^one + 2^other)."""
    if one < other:
        one, other = other, one
    if other == NEGLIGIBLE:
        return one
    return one + math.log2(1.0 + 2.0 ** (other - one))


def _merge(row: ItemSignals, new: Sequence[Increment]) -> ItemSignals:
    """Add pairs, shoppers and glimpses to a row, and drop the lightest neighbours and the oldest glimpses."""
    newest_ms = max(increment.at_ms for increment in new)
    positions = {item_id: position for position, item_id in enumerate(row.neighbours)}
    added: dict[int, list[float]] = {}
    bits: dict[int, int] = {}
    for increment in new:
        age_ms = newest_ms - increment.at_ms
        shopper = 1 << (increment.shopper - 1) if 0 < increment.shopper <= SHOPPER_BITS else 0
        faded, month_faded = 2.0 ** (-age_ms / _neighbour_ms), 2.0 ** (-age_ms / _recent_ms)
        for side, share, pairs in ((0, 1.0, increment.forward), (1, BACKWARD, increment.backward)):
            for item_id, pair_weight in pairs:
                if pair_weight > 0:
                    at = positions.setdefault(item_id, len(positions))
                    sums = added.setdefault(at, [0.0] * 4)
                    bits[at] = bits.get(at, 0) | shopper
                    sums[side] += pair_weight * faded
                    sums[2] += pair_weight * share * month_faded
                    if pair_weight >= 1.0 and not side:
                        sums[3] += pair_weight * faded
    columns = np.full((4, len(positions)), NEGLIGIBLE, np.float32)
    columns[:, : len(row.neighbours)] = row[3:7]
    shoppers = np.zeros(len(positions), np.uint16)
    shoppers[: len(row.neighbours)] = row.shoppers
    if added:
        places = list(added)
        with np.errstate(divide="ignore"):  # the logarithm of nothing is what stands for it
            logs = np.log2(np.array(list(added.values())).T)
        logs += np.array([[newest_ms / half_life_ms] for half_life_ms in _column_ms])
        columns[:, places] = np.logaddexp2(columns[:, places], logs)
        shoppers[places] |= np.array([bits[at] for at in places], np.uint16)
    names = tuple(positions)
    dropped = _lightest(names, columns)
    around = _glimpses(row, new, positions)
    if len(dropped):
        kept = np.ones(max(len(names), NOBODY + 1), np.bool_)
        kept[dropped] = False
        place = np.where(kept, np.cumsum(kept) - 1, NOBODY)
        around = around._replace(around=np.where(around.around < 0, NOBODY, place[around.around]))
        names = tuple(compress(names, kept.tolist()))
        columns, shoppers = columns[:, kept[: len(shoppers)]], shoppers[kept[: len(shoppers)]]
    return row._replace(
        neighbours=names,
        forward=columns[0],
        backward=columns[1],
        recent=columns[2],
        next=columns[3],
        shoppers=shoppers,
        sessions=around.sessions,
        seen_s=around.seen_s,
        around=np.where(around.around < 0, NOBODY, around.around).astype(np.uint8),
    )


def _lightest(names: Sequence[str], columns: FloatArray) -> NDArray[np.intp]:
    """The positions of the neighbours that a row has no room for."""
    letters = len("".join(names).encode())
    bytes_each = _COLUMN_BYTES + 1 + letters / max(1, len(names))
    room = min(MAX_NEIGHBOURS, int((MAX_ROW_BYTES - GLIMPSES * _GLIMPSE_BYTES - 200) / bytes_each))
    surplus = len(names) - room
    if surplus <= 0:
        return np.zeros(0, np.intp)
    return np.argpartition(columns[:2].max(axis=0), surplus)[:surplus]


class _Glimpses(NamedTuple):
    """Columns of a row in the making: `around` holds positions of any size, -1 for nobody."""

    sessions: NDArray[np.uint32]
    seen_s: NDArray[np.uint32]
    around: NDArray[np.int64]


def _glimpses(row: ItemSignals, new: Sequence[Increment], positions: Mapping[str, int]) -> _Glimpses:
    """Add to the row's sessions; the newest stay."""
    sessions, seen_s = row.sessions.tolist(), row.seen_s.tolist()
    around = row.around.astype(np.int64)
    around[around == NOBODY] = -1
    near = list(around)
    for increment in new:
        if not increment.session:
            continue
        if increment.session not in sessions:
            sessions.append(increment.session)
            seen_s.append(0)
            near.append(np.full(2 * NEAR, -1))
        place = sessions.index(increment.session)
        seen_s[place] = max(seen_s[place], min(increment.at_ms // 1000, 0xFFFFFFFF))
        for first, step, pairs in ((NEAR, 1, increment.forward), (NEAR - 1, -1, increment.backward)):
            for item_id, pair_weight in pairs:
                between = round(math.log(pair_weight) / _log_gap_decay) if pair_weight > 0 else NEAR
                if 0 <= between < NEAR:
                    near[place][first + step * between] = positions[item_id]
    newest = sorted(range(len(sessions)), key=lambda n: (seen_s[n], sessions[n]), reverse=True)[:GLIMPSES]
    return _Glimpses(
        np.array([sessions[n] for n in newest], np.uint32),
        np.array([seen_s[n] for n in newest], np.uint32),
        np.array([near[n] for n in newest], np.int64).reshape(-1, 2 * NEAR),
    )
