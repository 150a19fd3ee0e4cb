"""What any release wrote is read by this one, and what a newer one adds does not hinder it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from golden_records import FOLDER, KINDS, path_of, write

from stream.adapters import vector_record
from stream.core import attribution, codec, list_log, signals, versions
from stream.errors import InvalidMessage

EVERY = [(name, version) for name, kind in KINDS.items() for version in kind.values]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


@pytest.mark.parametrize(("name", "version"), EVERY)
def test_the_bytes_of_every_version_are_read_for_ever(name: str, version: int) -> None:
    kind = KINDS[name]
    assert _same(kind.decode(path_of(name, version).read_bytes()), kind.values[version])


@pytest.mark.parametrize("name", KINDS)
def test_every_version_up_to_today_s_has_its_bytes_and_no_others_lie_there(name: str) -> None:
    kind = KINDS[name]
    assert sorted(kind.values) == list(range(1, kind.version + 1))
    lie = {int(path.stem.rpartition("-")[2]) for path in FOLDER.glob(f"{name}-[0-9]*.bin")}
    assert lie == set(kind.values), "`python -P tests/golden_records.py` writes what is missing"


def test_what_is_written_now_is_what_its_version_says() -> None:
    assert write(KINDS) == []


def test_bytes_that_are_there_are_never_written_again(tmp_path: Path) -> None:
    assert write(KINDS, tmp_path) == []
    path = path_of("state", codec.VERSION, tmp_path)
    other = codec.encode(KINDS["state"].values[codec.VERSION]._replace(erased_ms=7))
    path.write_bytes(other)
    [said] = write(KINDS, tmp_path)
    assert f"state-{codec.VERSION}.bin is there" in said
    assert f"version {codec.VERSION + 1}" in said
    assert path.read_bytes() == other


def _with_more(data: bytes) -> bytes:
    """A record as a newer release could write it: one field more at each place that has names or an end."""
    fields = msgspec.json.decode(data)
    for one in fields if isinstance(fields, list) else [fields]:
        one["of_a_newer_release"] = {"more": [1]}
        for inner in one["items"] if isinstance(one.get("items"), list) else []:
            inner["of_a_newer_release"] = 1
    return msgspec.json.encode(fields)


@pytest.mark.parametrize(
    "name", ["recommendation-list", "attribution", "increments", "model-versions", "worker-report"]
)
def test_an_older_reader_leaves_aside_fields_that_it_does_not_know(name: str) -> None:
    kind = KINDS[name]
    data = path_of(name, kind.version).read_bytes()
    assert kind.decode(_with_more(data)) == kind.decode(data)


def test_an_older_reader_leaves_aside_what_a_newer_list_log_adds_at_its_end() -> None:
    kind = KINDS["list-log"]
    data = path_of("list-log", kind.version).read_bytes()
    more = msgspec.msgpack.encode([*msgspec.msgpack.decode(data), "of a newer release"])
    assert kind.decode(more) == kind.decode(data)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("state", codec.UnreadableState),
        ("item-signals-row", signals.UnreadableSignals),
        ("kept-list", attribution.UnreadableList),
        ("item-vector", InvalidMessage),
    ],
)
def test_the_bytes_of_a_newer_version_are_never_taken_for_those_of_this_one(
    name: str, error: type[Exception]
) -> None:
    kind = KINDS[name]
    data = bytearray(path_of(name, kind.version).read_bytes())
    data[0] = kind.version + 1
    with pytest.raises(error, match=f"version 0?{kind.version + 1}"):
        kind.decode(bytes(data))


def test_a_list_log_and_a_record_of_model_versions_of_a_newer_version_are_refused() -> None:
    newer = msgspec.structs.replace(KINDS["list-log"].values[1], layout=list_log.LAYOUT + 1)
    with pytest.raises(InvalidMessage, match="layout"):
        list_log.decode(list_log.encode(newer))
    serving = msgspec.structs.replace(KINDS["model-versions"].values[1], version=versions.VERSION + 1)
    with pytest.raises(InvalidMessage, match="version 2"):
        versions.decode(versions.encode(serving))
    assert vector_record.VERSION in KINDS["item-vector"].values
