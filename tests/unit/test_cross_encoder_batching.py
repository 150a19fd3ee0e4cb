"""How the cross-encoder makes one forward of many requests; loaded by path, without Triton."""

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

MODEL = Path(__file__).parents[2] / "model_repository" / "cross_encoder"
CLS, SEP = 101, 102


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cross_encoder_batching", MODEL / "batching.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


batching = load()

tokens = st.lists(st.integers(200, 30_000), max_size=120)
pairs = st.lists(
    st.builds(lambda left, right: batching.join(left, right, CLS, SEP), tokens, tokens),
    min_size=1,
    max_size=64,
)


def texts(*values: str | bytes) -> NDArray[Any]:
    """What Triton hands over of one input of one request."""
    raw = [[value.encode() if isinstance(value, str) else value] for value in values]
    return np.array(raw, dtype=np.object_).reshape(-1, 1)


def lengths(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    """Stand in for the model: a pair's score tells both lengths, so that a mix-up shows."""
    return np.array([len(left) + len(right) / 1000 for left, right in pairs], np.float32)


@given(tokens, tokens)
def test_a_pair_keeps_to_its_budget_and_the_right_text_gets_what_is_left(
    left: list[int], right: list[int]
) -> None:
    ids, of_right = batching.join(left, right, CLS, SEP)
    first, second = ids[: len(ids) - of_right], ids[len(ids) - of_right :]
    assert len(ids) <= batching.MAX_TOKENS
    assert first == [CLS, *left[: batching.LEFT_TOKENS], SEP]
    room = batching.MAX_TOKENS - len(first) - 1
    assert second == [*right[:room], SEP]


@given(pairs)
def test_every_pair_lies_whole_and_in_order_in_one_row(made: list[Any]) -> None:
    packed = batching.pack(made)
    assert packed.numbers.tolist() == list(range(1, len(made) + 1))
    for number, (ids, right) in enumerate(made, start=1):
        rows, places = np.nonzero(packed.text_numbers == number)
        assert len(set(rows)) == 1
        assert np.array_equal(places, np.arange(places[0], places[0] + len(ids)))
        assert packed.token_ids[rows, places].tolist() == ids
        assert packed.positions[rows, places].tolist() == list(range(len(ids)))
        assert packed.segments[rows, places].tolist() == [0] * (len(ids) - right) + [1] * right


@given(pairs)
def test_what_belongs_to_no_pair_is_zero_and_rows_have_the_length_of_a_bucket(made: list[Any]) -> None:
    packed = batching.pack(made)
    assert packed.token_ids.shape[1] in batching.BUCKETS
    nobody = packed.text_numbers == 0
    assert int((~nobody).sum()) == sum(len(one.token_ids) for one in made)
    for tensor in (packed.token_ids, packed.positions, packed.segments):
        assert tensor.shape == packed.text_numbers.shape
        assert not tensor[nobody].any()


def test_every_request_gets_the_scores_of_its_own_pairs_from_one_call() -> None:
    calls = []

    def score(together: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        calls.append(len(together))
        return lengths(together)

    requests = [(texts("a", "bb"), texts("x", "yy")), (texts("ccc"), texts("")), (texts(), texts())]
    answers = batching.answer(requests, score)
    assert calls == [3]
    assert [answer.shape for answer in answers] == [(2, 1), (1, 1), (0, 1)]
    np.testing.assert_allclose(np.concatenate(answers)[:, 0], [1.001, 2.002, 3.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        (texts("a", b"\xff"), texts("x", "y"), "LEFT[1] is not UTF-8"),
        (texts("a"), texts(b"\xc3"), "RIGHT[0] is not UTF-8"),
        (texts("a", "b"), texts("x"), "2 texts in LEFT, 1 in RIGHT"),
    ],
)
def test_a_bad_request_fails_alone_and_says_why(left: Any, right: Any, said: str) -> None:
    good = (texts("a"), texts("x"))
    first, bad, last = batching.answer([good, (left, right), good], lengths)
    assert isinstance(bad, batching.BadPair)
    assert said in str(bad)
    np.testing.assert_allclose([first[0, 0], last[0, 0]], 1.001)


def test_where_every_request_is_bad_the_model_is_not_asked() -> None:
    (bad,) = batching.answer([(texts(b"\xff"), texts("x"))], lambda _: pytest.fail("asked"))
    assert isinstance(bad, batching.BadPair)


def test_long_texts_are_cut_before_they_are_read() -> None:
    ((left, right),) = batching.pairs_of(texts("x" * 10**6), texts("y" * 10**6))
    assert len(left) == len(right) == batching.MAX_CHARS
