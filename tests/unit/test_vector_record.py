"""An encoded item survives its way through a topic, and damage is noticed."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from builders import direction, item_vector
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.adapters.vector_record import VERSION, decode, encode
from stream.core.items import DIMENSIONS
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
    assert found._replace(vector=None) == made._replace(vector=None)
    assert found.vector is not None
    assert found.vector.dtype == np.float32
    np.testing.assert_allclose(found.vector, made.vector, atol=1e-4)
    assert np.linalg.norm(found.vector) == pytest.approx(1.0, abs=1e-3)


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
        vector = decode(damaged).vector
        assert vector is None or vector.shape == (DIMENSIONS,)
