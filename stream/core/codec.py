"""`UserState` to bytes and back: a versioned record, written as columns and deflated.

Layout of version 1: one byte with the version, eight with the sequence (big-endian, in the clear so that
a compare-and-set need not read on), then one raw deflate stream of a msgpack array `[items, interactions,
searches, owned]`, where `items` is one string of distinct item ids joined by newlines (a newline inside
an id is escaped) and the others are columns: times as milliseconds since the entry before, item ids as
positions in `items`. Version 2 has `[erased_ms, marked_until_ms]` behind them. The bytes of a version never
change; `tests/unit/test_state_codec.py` holds golden bytes of each.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import accumulate

import msgspec

from stream.core.events import EVENT_TYPES
from stream.core.state import Interaction, Owned, Search, UserState
from stream.errors import StreamrecError

VERSION = 2
"""Of a state with the mark of an erasure; all others are written as version 1, which knows no mark."""
MAX_BYTES = 16_000_000
"""Of a state when it is inflated; the longest that the policy allows stays far below."""
_encoder = msgspec.msgpack.Encoder()
_Interactions = tuple[list[int], bytes | list[int], bytes, list[int], bytes]
_Searches = tuple[list[int], list[str], list[int]]
_Owned = tuple[list[int], bytes | list[int]]
_decoder = msgspec.msgpack.Decoder(tuple[str, _Interactions, _Searches, _Owned])
_marked_decoder = msgspec.msgpack.Decoder(tuple[str, _Interactions, _Searches, _Owned, tuple[int, int]])


class UnreadableState(StreamrecError):
    """Bytes that no version of the codec wrote, or that were damaged."""


def encode(state: UserState) -> bytes:
    """Write a state, without its user id, which is the key it is stored under."""
    positions: dict[str, int] = {}
    for item_id in [i.item_id for i in state.interactions] + [o.item_id for o in state.owned]:
        positions.setdefault(item_id, len(positions))
    marked = bool(state.erased_ms)
    body = _encoder.encode(
        [
            "\n".join(map(_escape, positions)),
            [
                _deltas([i.at_ms for i in state.interactions]),
                _places([positions[i.item_id] for i in state.interactions]),
                bytes(i.kind for i in state.interactions),
                _runs([i.session for i in state.interactions]),
                b"".join(i.digest.to_bytes(3, "big") for i in state.interactions),
            ],
            [
                _deltas([s.at_ms for s in state.searches]),
                [s.query for s in state.searches],
                [s.digest for s in state.searches],
            ],
            [
                _deltas([o.at_ms for o in state.owned]),
                _places([positions[o.item_id] for o in state.owned]),
            ],
            *[(state.erased_ms, state.marked_until_ms)] * marked,
        ]
    )
    head = bytes([VERSION if marked else 1]) + state.sequence.to_bytes(8, "big")
    return head + zlib.compress(body, 6, wbits=-15)


def decode(user_id: str, data: bytes) -> UserState:
    """Read a state.

    Raises:
        UnreadableState: the version is unknown or the bytes are damaged.
    """
    if not data or not 1 <= data[0] <= VERSION:
        raise UnreadableState(f"state of version {data[0] if data else 'none'}, known: 1 to {VERSION}")
    try:
        body = _inflated(data[9:])
        names, interactions, searches, owned, mark = (
            _marked_decoder.decode(body) if data[0] == VERSION else (*_decoder.decode(body), (0, 0))
        )
        items = [_unescape(name) for name in names.split("\n")]
        times, places, kinds, sessions, digests = interactions
        if max(kinds, default=0) >= len(EVENT_TYPES):
            raise ValueError("unknown event type")
        return UserState(
            user_id=user_id,
            sequence=int.from_bytes(data[1:9], "big"),
            interactions=tuple(
                Interaction(at_ms, items[place], kind, session, digest)
                for at_ms, place, kind, session, digest in zip(
                    accumulate(times),
                    places,
                    kinds,
                    _unrun(sessions),
                    (int.from_bytes(digests[i : i + 3], "big") for i in range(0, len(digests), 3)),
                    strict=True,
                )
            ),
            searches=tuple(
                Search(at_ms, query, digest)
                for at_ms, query, digest in zip(
                    accumulate(searches[0]), searches[1], searches[2], strict=True
                )
            ),
            owned=tuple(
                Owned(at_ms, items[place])
                for at_ms, place in zip(accumulate(owned[0]), owned[1], strict=True)
            ),
            erased_ms=mark[0],
            marked_until_ms=mark[1],
        )
    except (zlib.error, msgspec.DecodeError, ValueError, IndexError) as error:
        raise UnreadableState(f"damaged state: {error}") from None


def _inflated(data: bytes) -> bytes:
    """Inflate up to a bound.

    Raises:
        ValueError: there is more, or the end is missing.
    """
    stream = zlib.decompressobj(wbits=-15)
    body = stream.decompress(data, MAX_BYTES)
    if not stream.eof:
        raise ValueError(f"more than {MAX_BYTES} bytes, or cut short")
    return body


def _places(values: list[int]) -> bytes | list[int]:
    """Small numbers as one byte each; both forms read back as a sequence of ints."""
    return bytes(values) if all(value < 256 for value in values) else values


def _deltas(values: list[int]) -> list[int]:
    return [after - before for before, after in zip([0, *values], values, strict=False)]


def _runs(values: list[int]) -> list[int]:
    """Run lengths: [value, count, value, count, ...]; sessions come in runs."""
    runs: list[int] = []
    for value in values:
        if runs and runs[-2] == value:
            runs[-1] += 1
        else:
            runs += [value, 1]
    return runs


def _unrun(runs: list[int]) -> Iterator[int]:
    """One by one, so that a damaged count ends where the other columns do."""
    return (value for value, count in zip(runs[::2], runs[1::2], strict=True) for _ in range(count))


def _escape(item_id: str) -> str:
    return item_id.replace("\\", "\\\\").replace("\n", "\\n")


def _unescape(name: str) -> str:
    if "\\" not in name:
        return name
    return name.replace("\\\\", "\x00").replace("\\n", "\n").replace("\x00", "\\")
