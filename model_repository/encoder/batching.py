"""Many texts, one forward: the pure half of the model; `model.py` holds what touches Triton.

Texts are packed, not padded: several short ones share a row, kept apart by their numbers, which the
model's attention and pooling look at. So one long text among many short ones costs what it is long and
not that much for each of them, and a batch is still a single forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_TOKENS = 64
"""Longer texts are cut here, [CLS] and [SEP] counted."""

MAX_CHARS = 2_000
"""What is looked at of a text: far more than fills `MAX_TOKENS`, and little enough to be read quickly."""

BUCKETS = (8, 16, 32, 48, MAX_TOKENS)
"""Lengths of a row in tokens. One forward has rows of one length; each is warmed up, see config.pbtxt."""

Vectors = NDArray[np.float32]


class BadText(ValueError):
    """A request that cannot be encoded; the message names the text by its place in the request."""


class Packed(NamedTuple):
    """The inputs of the model.

    `token_ids`, `positions` and `text_numbers` have shape [rows, tokens]: the token, its place in its
    text, and whose it is, counted from 1 (0: nobody's). `numbers` [texts] is 1, 2, ...
    """

    token_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    text_numbers: NDArray[np.int64]
    numbers: NDArray[np.int64]


def pack(texts: Sequence[Sequence[int]]) -> Packed:
    """Put texts, given as 1 to `MAX_TOKENS` token ids each, into as few rows as first-fit finds.

    The row length is the bucket of the longest text.
    """
    lengths = [len(text) for text in texts]
    width = next(bucket for bucket in BUCKETS if bucket >= max(lengths))
    used: list[int] = []
    places: list[tuple[int, int, int]] = []
    for text in sorted(range(len(texts)), key=lambda text: -lengths[text]):
        row = next((row for row, end in enumerate(used) if end + lengths[text] <= width), len(used))
        if row == len(used):
            used.append(0)
        places.append((text, row, used[row]))
        used[row] += lengths[text]
    shape = (len(used), width)
    token_ids, positions, text_numbers = (np.zeros(shape, np.int64) for _ in range(3))
    for text, row, start in places:
        end = start + lengths[text]
        token_ids[row, start:end] = texts[text]
        positions[row, start:end] = np.arange(lengths[text])
        text_numbers[row, start:end] = text + 1
    return Packed(token_ids, positions, text_numbers, np.arange(1, len(texts) + 1))


def texts_of(raw: NDArray[Any]) -> list[str]:
    """Read the texts of one request.

    Args:
        raw: UTF-8 bytes, shape [n, 1].

    Raises:
        BadText: not UTF-8.
    """
    texts = []
    for place, value in enumerate(raw.reshape(-1)):
        try:
            texts.append(value.decode()[:MAX_CHARS])
        except UnicodeDecodeError as error:
            raise BadText(f"TEXT[{place}] is not UTF-8: {error.reason} at byte {error.start}") from None
    return texts


def answer(
    requests: Sequence[NDArray[Any]], encode: Callable[[list[str]], Vectors]
) -> list[Vectors | BadText]:
    """Encode the texts of all requests at once and give each request its own vectors, or what is wrong.

    Args:
        requests: as for `texts_of`; a bad one leaves the others alone.
        encode: texts to vectors of shape [texts, dimensions], in order; not called without texts.
    """
    read: list[list[str] | BadText] = []
    for raw in requests:
        try:
            read.append(texts_of(raw))
        except BadText as error:
            read.append(error)
    together = [text for texts in read if not isinstance(texts, BadText) for text in texts]
    vectors = encode(together) if together else np.zeros((0, 0), np.float32)
    answers: list[Vectors | BadText] = []
    start = 0
    for texts in read:
        if isinstance(texts, BadText):
            answers.append(texts)
        else:
            answers.append(vectors[start : start + len(texts)])
            start += len(texts)
    return answers
