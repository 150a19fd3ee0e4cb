"""An encoded item survives its way through a topic, and damage is noticed."""

from __future__ import annotations

import contextlib

import msgspec
import numpy as np
import pytest
from builders import direction, item_vector
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.adapters.vector_record import VERSION, decode, encode
from stream.core.events import Source
from stream.core.items import DIMENSIONS, Item
from stream.errors import InvalidMessage


def test_an_item_with_its_vector_is_read_as_it_was_written_but_for_rounding() -> None:
    made = item_vector(
        "カップ",
        "red mug",
        vector=direction(1),
        offset=9,
        description="for tea",
        category="home > cups",
        brand="acme",
        price=2.5,
        available=False,
        updated_ms=5,
        first_seen_ms=3,
    )
    found = decode(encode(made))
    assert found._replace(vectors={}) == made._replace(vectors={})
    [vector] = found.vectors.values()
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, made.vectors["1"], atol=1e-4)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-3)


def test_an_item_carries_the_vectors_of_two_versions() -> None:
    made = item_vector("mug")._replace(vectors={"1": direction(1), "2": direction(2)})
    found = decode(encode(made))
    assert found.vectors.keys() == {"1", "2"}
    for version, vector in found.vectors.items():
        np.testing.assert_allclose(vector, direction(int(version)), atol=1e-4)


FIRST_LAYOUT = b"\x01" + msgspec.msgpack.encode(
    [{"item_id": "mug", "title": "red mug", "price": 2.5}, None, "1", ["items", 0, 7, 1_700_000_000_000]]
)


def test_a_record_of_the_first_layout_is_still_read() -> None:
    numbers = direction(1).astype(np.float16).tobytes()
    fields = msgspec.msgpack.decode(FIRST_LAYOUT[1:])
    for vector in (numbers, b""):
        fields[1] = vector
        found = decode(b"\x01" + msgspec.msgpack.encode(fields))
        assert found.item == Item("mug", "red mug", price=2.5)
        assert found.source == Source("items", 0, 7, 1_700_000_000_000)
        assert found.vectors.keys() == ({"1"} if vector else set())


def test_an_item_without_a_vector_is_read_as_it_was_written() -> None:
    assert decode(encode(item_vector("mug"))) == item_vector("mug")


def test_an_item_takes_less_than_a_kilobyte() -> None:
    assert len(encode(item_vector("85123A", "WHITE HANGING LANTERN", vector=direction(1)))) < 1_000


@pytest.mark.parametrize("data", [b"", b"\x00", bytes([VERSION + 1]) + b"abc", b"\x01", b"\x01\xc1"])
def test_what_no_version_wrote_is_invalid(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode(data)


@settings(max_examples=200)
@given(st.data())
def test_damage_is_invalid_or_an_item(data: st.DataObject) -> None:
    good = encode(item_vector("mug", "red mug", vector=direction(1), price=2.0))
    place = data.draw(st.integers(0, 120) | st.integers(0, len(good) - 1))
    damaged = good[:place] + data.draw(st.binary(max_size=3)) + good[place + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(InvalidMessage):
        assert all(vector.shape == (DIMENSIONS,) for vector in decode(damaged).vectors.values())
