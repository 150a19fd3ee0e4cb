"""aiokafka's reading of what a broker answers, changed in two places.

**Header names that are not UTF-8.** aiokafka gives a whole partition up at them.

Brokers take any bytes as the name of a header, and other clients read them. aiokafka decodes the names while
it unpacks what it fetched, so that one such record stops its partition for every consumer, for ever: whoever
may publish could stop the engine. Here such a batch is unpacked again with the odd bytes of its names
written as backslashes (`\\xff`), and everything else in it as it is.

**Offsets that hold no message.** The marks of transactions and what aborted ones held take offsets too.
aiokafka leaves them out without a word; here they are noted, so that nobody takes them for lost messages.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, SupportsIndex, overload

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint_py

from stream.ports import Place

LENGTH_AT = 8
HEAD_BYTES = 12
"""Of a batch, before what its length counts: the first offset, and that length."""
HOLES_KEPT = 10_000
"""Ranges of a partition; what more there were is looked up at the broker."""


class TolerantRecords:
    """What a broker answered for one partition, batch by batch; takes the place of aiokafka's own reader."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = data
        self._at = 0

    def size_in_bytes(self) -> int:
        """How much the broker sent."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Whether another whole batch is there."""
        return bool(self._records.has_next())

    def next_batch(self) -> TolerantBatch | None:
        """Give the next batch; None where there is none. Raises as aiokafka's reader."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        length = int.from_bytes(self._data[self._at + LENGTH_AT : self._at + HEAD_BYTES], "big")
        begin, self._at = self._at, self._at + HEAD_BYTES + length
        return TolerantBatch(batch, memoryview(self._data)[begin : self._at])


class TolerantBatch:
    """A batch of records.

    Args:
        batch: as aiokafka reads it.
        data: the same, as it was sent.
    """

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        given = 0
        try:
            for record in self._batch:
                given += 1
                yield record
        except (UnicodeDecodeError, CorruptRecordException, MemoryError, OverflowError):
            again = iter(_DefaultRecordBatchPy(self._data))
            again._buffer = Escaping(again._buffer)
            # aiokafka's compiled reader of lengths does not look where the bytes end: a damaged batch would
            # crash the process.
            again._read_msg = partial(again._read_msg, decode_varint_py)
            # What was given already is not given twice; what is truly damaged is found again.
            yield from islice(again, given, None)


class Escaping(bytearray):
    """Bytes whose slices, read as text, show what is not UTF-8 with backslashes."""

    @overload
    def __getitem__(self, at: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> Escaping: ...
    def __getitem__(self, at: SupportsIndex | slice) -> int | Escaping:
        return Escaping(super().__getitem__(at)) if isinstance(at, slice) else super().__getitem__(at)

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        """Read as text; never fails."""
        return super().decode(encoding, errors)


class NotedHoles:
    """`stream.ports.Holes`: those that consumers came upon in their threads, the last of each partition."""

    def __init__(self) -> None:
        self._ranges: dict[Place, deque[range]] = {}
        self._changes = threading.Lock()

    def begin(self, place: Place) -> None:
        """Take note of a partition's from now on; what was known is forgotten."""
        with self._changes:
            self._ranges[place] = deque(maxlen=HOLES_KEPT)

    def note(self, place: Place, hole: range) -> None:
        """Take in offsets, unless nobody wants to know; the oldest of a partition are forgotten."""
        with self._changes:
            if place in self._ranges:
                self._ranges[place].append(hole)

    def behind(self, place: Place, offset: int) -> list[range]:
        """Those that end behind an offset; the others are forgotten."""
        with self._changes:
            known = self._ranges.get(place, deque())
            while known and known[0].stop <= offset:
                known.popleft()
            return list(known)


holes = NotedHoles()
"""Of all consumers of this process."""


class WatchedRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """What was fetched of a partition, record by record; what is left out between two is noted."""

    def _unpack_records(self) -> Iterator[Any]:
        place, expected = tuple(self._tp), self.next_fetch_offset
        for record in super()._unpack_records():
            if record.offset > expected:
                holes.note(place, range(expected, record.offset))
            expected = record.offset + 1
            yield record
        if self.next_fetch_offset > expected:
            holes.note(place, range(expected, self.next_fetch_offset))


def tolerate() -> None:
    """Have every consumer of this process read so. aiokafka has no other place to say it."""
    fetcher.MemoryRecords = TolerantRecords
    fetcher.PartitionRecords = WatchedRecords
