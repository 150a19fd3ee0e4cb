"""Odd header names, damaged batches and offsets without a message stop no partition."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import encode_varint_py
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from odd_names import OddName

from stream.adapters import kafka_clients, kafka_records
from stream.adapters.kafka_records import TolerantRecords

Records = list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]]
ODD: Records = [
    (b"ann", b"first", [("trace", b"1")]),
    (b"bob", b"second", [(OddName(b"\xff\xfe"), b"2"), ("fine", None), (OddName(b"caf\xe9"), b"")]),
    (None, None, []),
    ("日本".encode(), b"\x00\xff", [("名", b"\xff")]),
]
READ = [
    (b"ann", b"first", [("trace", b"1")]),
    (b"bob", b"second", [("\\xff\\xfe", b"2"), ("fine", None), ("caf\\xe9", b"")]),
    (None, None, []),
    ("日本".encode(), b"\x00\xff", [("名", b"\xff")]),
]
COUNT_AT = 57
"""Where a batch says how many records it holds; they follow."""
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def _batch(records: Records, first_offset: int = 0, codec: int = 0, producer: int | None = None) -> bytes:
    """A batch as a broker gives it; with a producer it is part of a transaction."""
    of = (False, -1, -1, -1) if producer is None else (True, producer, 0, 0)
    builder = _DefaultRecordBatchBuilderPy(2, codec, *of, 1_000_000)
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, 1_700_000_000_000, key, value, headers)
    built = bytearray(builder.build())
    built[:8] = first_offset.to_bytes(8, "big")
    return bytes(built)


def _read(data: bytes, fetch_offset: int = 0) -> list[Any]:
    """What the engine's consumers get of an answer of a broker."""
    records = fetcher.MemoryRecords(data)
    at = TopicPartition("clicks", 0)
    return list(fetcher.PartitionRecords(at, records, [], fetch_offset, None, None, True, 0))


def test_whoever_reads_kafka_by_the_engine_s_clients_reads_so() -> None:
    assert kafka_clients.kafka_records is kafka_records
    assert fetcher.MemoryRecords is TolerantRecords


def test_aiokafka_alone_gives_such_a_batch_up() -> None:
    """Where this fails, aiokafka has learnt to read it, and `kafka_records.py` can go."""
    batch = MemoryRecords(_batch(ODD)).next_batch()
    with pytest.raises((UnicodeDecodeError, CorruptRecordException)):
        list(batch)


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_with_odd_names_is_read_whole_and_in_order(codec: str) -> None:
    found = _read(_batch(ODD, 40, CODECS[codec]), 40)
    assert [(one.key, one.value, list(one.headers)) for one in found] == READ
    assert [one.offset for one in found] == [40, 41, 42, 43]
    assert {one.timestamp for one in found} == {1_700_000_000_000}


def test_the_batches_before_and_after_it_are_read_too_and_the_last_one_that_is_cut_short_is_not() -> None:
    fine: Records = [(b"eve", b"fine", [("trace", b"3")])] * 2
    after = _batch(fine, 6)
    data = _batch(fine) + _batch(ODD, 2) + after + _batch(fine, 8)[:-1]
    assert [one.offset for one in _read(data)] == list(range(8))


@pytest.mark.parametrize("position", range(5))
def test_reading_goes_on_at_any_offset_within_the_batch(position: int) -> None:
    assert [one.offset for one in _read(_batch(ODD), position)] == list(range(position, 4))


@pytest.mark.parametrize("codec", CODECS)
def test_sound_batches_are_read_as_before_however_the_publisher_compresses(codec: str) -> None:
    sound: Records = [(b"ann", b"%d" % n, [("trace", b"%d" % n)]) for n in range(50)]
    data = _batch(sound, 0, CODECS[codec])
    [ours, theirs] = [records(data).next_batch() for records in (TolerantRecords, MemoryRecords)]
    for one, other in itertools.zip_longest(ours, theirs):
        assert (one.offset, one.key, one.value, one.headers) == (
            *(other.offset, other.key, other.value, other.headers),
        )


@pytest.mark.parametrize("names", ["odd", "sound"])
def test_a_damaged_batch_is_still_refused(names: str) -> None:
    data = bytearray(_batch(ODD if names == "odd" else [(b"ann", b"first", [])]))
    data[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        _read(bytes(data))


def test_records_that_do_not_fit_their_batch_are_refused_and_what_came_before_is_given() -> None:
    data = bytearray(_batch(ODD[:1] * 2))
    data[COUNT_AT : COUNT_AT + 4] = (3).to_bytes(4, "big")  # one record more than there are
    batch = TolerantRecords(bytes(data)).next_batch()
    assert batch is not None
    found: list[int] = []
    with pytest.raises(CorruptRecordException):
        found.extend(record.offset for record in batch)
    assert found == [0, 1]


@given(st.data())
def test_whatever_a_batch_holds_reading_it_ends_and_never_leaves_its_bytes(data: st.DataObject) -> None:
    """Lengths and counts that point far away are refused; they were followed, and the process crashed."""
    batch = bytearray(_batch(ODD))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(COUNT_AT, len(batch) - 1))
        few = data.draw(st.binary(min_size=1, max_size=10))
        batch[at : at + len(few)] = few
    batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
    read = TolerantRecords(bytes(batch)).next_batch()
    assert read is not None
    try:
        for record in read:
            assert len(record.key or b"") + len(record.value or b"") < len(batch)
    except CorruptRecordException:
        pass


def test_a_length_that_points_out_of_memory_is_refused() -> None:
    far = bytearray()
    encode_varint_py(1 << 40, far.append)
    data = _batch(ODD[1:2])
    at = data.index(b"\x0csecond")
    damaged = bytearray(data[:at] + far + data[at + 1 :])
    damaged[8:12] = (len(damaged) - 12).to_bytes(4, "big")
    batch = TolerantRecords(bytes(damaged)).next_batch()
    assert batch is not None
    with pytest.raises(CorruptRecordException):
        list(batch)


def _abort(offset: int, producer: int) -> bytes:
    """The mark that a producer's transaction was aborted."""
    mark = bytearray(_batch([(b"\0\0\0\0", b"", [])], offset, producer=producer))
    mark[22] |= 0x20
    return bytes(mark)


def test_offsets_that_hold_no_message_are_noted() -> None:
    place = TopicPartition("clicks", 3)
    holes = kafka_records.holes
    holes.begin(place)
    said: Records = [(b"ann", b"said", [])]
    unsaid: Records = [(b"bob", b"unsaid", [])] * 3
    data = (
        _batch(said, 10)
        + _batch(unsaid, 11, producer=7)
        + _abort(14, producer=7)
        + _batch(said * 2, 15)
        + _abort(17, producer=7)
    )
    fetched = fetcher.PartitionRecords(
        *(place, fetcher.MemoryRecords(data), [(7, 11)], 10, None, None, False, fetcher.READ_COMMITTED)
    )
    assert [next(fetched).offset for _ in range(2)] == [10, 15]
    assert holes.behind(place, 10) == [range(11, 15)]
    assert [record.offset for record in fetched] == [16]
    assert holes.behind(place, 10) == [range(11, 15), range(17, 18)]
    assert holes.behind(place, 15) == holes.behind(place, 0) == [range(17, 18)]
    for number in range(kafka_records.HOLES_KEPT):
        holes.note(place, range(2 * number + 20, 2 * number + 21))
    assert len(holes.behind(place, 0)) == kafka_records.HOLES_KEPT
    holes.begin(place)
    assert holes.behind(place, 0) == []
    holes.note(("items", 0), range(9))
    assert holes.behind(("items", 0), 0) == []


def test_the_same_holds_without_aiokafka_s_compiled_reader() -> None:
    """As on a platform that has no wheel of it."""
    program = (
        "import test_header_names as tests; "
        "tests.test_a_batch_with_odd_names_is_read_whole_and_in_order('gzip'); "
        "tests.test_a_damaged_batch_is_still_refused('odd')"
    )
    folder = str(Path(__file__).parent)
    subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            f"import sys; sys.path[:0] = [{folder!r}, {folder!r} + '/..']; {program}",
        ],
        env={**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"},
        check=True,
        timeout=120,
    )
