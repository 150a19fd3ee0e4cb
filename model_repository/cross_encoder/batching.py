"""Many pairs of texts, one forward: the pure half of the model; `triton_model.py` holds what touches Triton.

A pair is cut to a budget of tokens, so that a long description costs no more than it may. Pairs are
packed, not padded: several short ones share a row, kept apart by their numbers, which the model's
attention and classifier look at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_TOKENS = 96
"""Tokens of a pair, [CLS] and both [SEP] counted; the right text is cut to what is left."""

LEFT_TOKENS = 24
"""Tokens that the left text may have."""

MAX_CHARS = 2_000
"""What is looked at of a text: far more than fills `MAX_TOKENS`, and little enough to be read quickly."""

BUCKETS = (32, 64, MAX_TOKENS)
"""Lengths of a row in tokens. One forward has rows of one length; each is warmed up, see config.pbtxt."""

Scores = NDArray[np.float32]
Pair = tuple[str, str]


class BadPair(ValueError):
    """A request that cannot be scored; the message names the text by its input and place in the request."""


class Joined(NamedTuple):
    """One pair as the model reads it: `[CLS] left [SEP] right [SEP]`, the last `right` of them segment 1."""

    token_ids: list[int]
    right: int


class Packed(NamedTuple):
    """The inputs of the model.

    `token_ids`, `positions`, `segments` and `text_numbers` have shape [rows, tokens]: the token, its place
    in its pair, 1 where it is of the right text, and whose it is, counted from 1 (0: nobody's).
    `numbers` [pairs] is 1, 2, ...
    """

    token_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    segments: NDArray[np.int64]
    text_numbers: NDArray[np.int64]
    numbers: NDArray[np.int64]


def join(left: Sequence[int], right: Sequence[int], cls: int, sep: int) -> Joined:
    """Cut two texts, given as token ids without special ones, to the budget and put them together."""
    first = [cls, *left[:LEFT_TOKENS], sep]
    second = [*right[: MAX_TOKENS - len(first) - 1], sep]
    return Joined(first + second, len(second))


def pack(pairs: Sequence[Joined]) -> Packed:
    """Put pairs into as few rows as first-fit finds. The row length is the bucket of the longest pair."""
    lengths = [len(pair.token_ids) for pair in pairs]
    width = next(bucket for bucket in BUCKETS if bucket >= max(lengths))
    used: list[int] = []
    places: list[tuple[int, int, int]] = []
    for pair in sorted(range(len(pairs)), key=lambda pair: -lengths[pair]):
        row = next((row for row, end in enumerate(used) if end + lengths[pair] <= width), len(used))
        if row == len(used):
            used.append(0)
        places.append((pair, row, used[row]))
        used[row] += lengths[pair]
    shape = (len(used), width)
    token_ids, positions, segments, text_numbers = (np.zeros(shape, np.int64) for _ in range(4))
    for pair, row, start in places:
        end = start + lengths[pair]
        token_ids[row, start:end] = pairs[pair].token_ids
        positions[row, start:end] = np.arange(lengths[pair])
        segments[row, end - pairs[pair].right : end] = 1
        text_numbers[row, start:end] = pair + 1
    return Packed(token_ids, positions, segments, text_numbers, np.arange(1, len(pairs) + 1))


def pairs_of(left: NDArray[Any], right: NDArray[Any]) -> list[Pair]:
    """Read the pairs of one request.

    Args:
        left, right: UTF-8 bytes, shape [n, 1] each.

    Raises:
        BadPair: not UTF-8, or not as many of the one as of the other.
    """
    lefts, rights = _texts(left, "LEFT"), _texts(right, "RIGHT")
    if len(lefts) != len(rights):
        raise BadPair(f"{len(lefts)} texts in LEFT, {len(rights)} in RIGHT")
    return list(zip(lefts, rights, strict=True))


def answer(
    requests: Sequence[tuple[NDArray[Any], NDArray[Any]]], score: Callable[[list[Pair]], Scores]
) -> list[Scores | BadPair]:
    """Score the pairs of all requests at once and give each request its own scores, or what is wrong.

    Args:
        requests: left and right texts, as for `pairs_of`; a bad one leaves the others alone.
        score: pairs to scores of shape [pairs], in order; not called without pairs.

    Returns:
        Scores [n, 1] for each request.
    """
    read: list[list[Pair] | BadPair] = []
    for left, right in requests:
        try:
            read.append(pairs_of(left, right))
        except BadPair as error:
            read.append(error)
    together = [pair for pairs in read if not isinstance(pairs, BadPair) for pair in pairs]
    scores = score(together) if together else np.zeros(0, np.float32)
    answers: list[Scores | BadPair] = []
    start = 0
    for pairs in read:
        if isinstance(pairs, BadPair):
            answers.append(pairs)
        else:
            answers.append(scores[start : start + len(pairs), None])
            start += len(pairs)
    return answers


def _texts(raw: NDArray[Any], name: str) -> list[str]:
    texts = []
    for place, value in enumerate(raw.reshape(-1)):
        try:
            texts.append(value.decode()[:MAX_CHARS])
        except UnicodeDecodeError as error:
            raise BadPair(f"{name}[{place}] is not UTF-8: {error.reason} at byte {error.start}") from None
    return texts
