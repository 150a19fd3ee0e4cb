"""How the encoder makes one forward of many requests; loaded by path, without Triton."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

ENCODER = Path(__file__).parents[2] / "model_repository" / "encoder"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("encoder_batching", ENCODER / "batching.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


batching = load()

token_lists = st.lists(st.lists(st.integers(1, 30_000), min_size=1, max_size=64), min_size=1, max_size=64)


def request(*texts: str | bytes) -> NDArray[Any]:
    """What Triton hands over for one request."""
    values = [[text.encode() if isinstance(text, str) else text] for text in texts]
    return np.array(values, dtype=np.object_).reshape(-1, 1)


def lengths(texts: Sequence[str]) -> NDArray[np.float32]:
    """Stand in for the model: a text's vector is its length, so that a mix-up shows."""
    return np.array([[len(text)] for text in texts], np.float32)


@given(token_lists)
def test_every_text_lies_whole_and_in_order_in_one_row(texts: list[list[int]]) -> None:
    packed = batching.pack(texts)
    assert packed.numbers.tolist() == list(range(1, len(texts) + 1))
    for number, text in enumerate(texts, start=1):
        rows, places = np.nonzero(packed.text_numbers == number)
        assert len(set(rows)) == 1
        assert np.array_equal(places, np.arange(places[0], places[0] + len(text)))
        assert packed.token_ids[rows, places].tolist() == text
        assert packed.positions[rows, places].tolist() == list(range(len(text)))


@given(token_lists)
def test_what_belongs_to_no_text_is_zero(texts: list[list[int]]) -> None:
    packed = batching.pack(texts)
    nobody = packed.text_numbers == 0
    assert int((~nobody).sum()) == sum(len(text) for text in texts)
    assert not packed.token_ids[nobody].any()
    assert not packed.positions[nobody].any()


@given(token_lists)
def test_rows_have_the_length_of_a_bucket_and_at_most_one_is_half_empty(texts: list[list[int]]) -> None:
    packed = batching.pack(texts)
    width = packed.token_ids.shape[1]
    assert width in batching.BUCKETS
    filled = (packed.text_numbers > 0).sum(axis=1)
    assert int((filled * 2 <= width).sum()) <= 1


def test_one_long_text_does_not_make_the_short_ones_dear() -> None:
    queries, long = [[101, 7, 7, 7, 102]] * 60, [list(range(1, 65))]
    padded = 61 * 64
    assert batching.pack(queries + long).token_ids.size <= padded / 9


def test_short_texts_alone_use_short_rows() -> None:
    assert batching.pack([[101, 7, 102]]).token_ids.shape == (1, 8)


def test_each_request_gets_its_own_vectors_from_one_forward() -> None:
    calls: list[list[str]] = []

    def encode(texts: list[str]) -> NDArray[np.float32]:
        calls.append(texts)
        return lengths(texts)

    answers = batching.answer([request("a", "bb"), request("ccc"), request("dddd", "e", "ff")], encode)
    assert [answer.tolist() for answer in answers] == [[[1], [2]], [[3]], [[4], [1], [2]]]
    assert len(calls) == 1


def test_a_request_that_is_not_utf8_fails_alone_and_says_where() -> None:
    good, bad, also_good = batching.answer([request("a"), request("b", b"x\xffy"), request("ccc")], lengths)
    assert good.tolist() == [[1]]
    assert also_good.tolist() == [[3]]
    assert isinstance(bad, batching.BadText)
    assert str(bad) == "TEXT[1] is not UTF-8: invalid start byte at byte 1"


def test_the_model_is_not_asked_where_no_request_is_good() -> None:
    def encode(texts: list[str]) -> NDArray[np.float32]:
        pytest.fail("there is nothing to encode")

    (bad,) = batching.answer([request(b"\xff")], encode)
    assert isinstance(bad, batching.BadText)
    assert batching.answer([], encode) == []


def test_an_empty_text_is_encoded_like_any_other() -> None:
    (answer,) = batching.answer([request("", "a")], lengths)
    assert answer.tolist() == [[0], [1]]


def test_no_more_of_a_long_text_is_read_than_can_matter() -> None:
    (answer,) = batching.answer([request("long " * 20_000)], lengths)
    assert answer.tolist() == [[batching.MAX_CHARS]]


def test_every_row_length_is_warmed_up() -> None:
    config = (ENCODER / "config.pbtxt").read_text()
    for bucket in batching.BUCKETS:
        assert f'input_data_file: "tokens-{bucket}"' in config
        assert (ENCODER / "warmup" / f"tokens-{bucket}").exists()
