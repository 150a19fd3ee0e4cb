"""Texts as token ids: tokenised once, in ragged arrays, cut into batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

TOKENISED_AT_ONCE = 4_096
MULTIPLE = 8
"""Padded lengths are multiples of this, so that few shapes occur."""


class Texts:
    """Distinct texts, each known by its number.

    Args:
        tokenizer: file `tokenizer.json`.
        max_tokens: that are kept of a text, [CLS] and [SEP] among them.
    """

    def __init__(self, tokenizer: Path, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._numbers: dict[str, int] = {}
        self._ids: list[NDArray[np.int32]] = []
        self._lengths: Numbers = np.zeros(0, np.int64)
        self.padding = self._tokenizer.token_to_id("[PAD]") or 0

    def __len__(self) -> int:
        return len(self._ids)

    def known(self) -> list[str]:
        """Return all texts, in the order of their numbers."""
        return list(self._numbers)

    def add(self, texts: Iterable[str]) -> Numbers:
        """Return the numbers of `texts`, of which the unknown ones are tokenised first."""
        texts = list(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._numbers]
        for start in range(0, len(new), TOKENISED_AT_ONCE):
            some = new[start : start + TOKENISED_AT_ONCE]
            self._ids += [
                np.array(encoded.ids, np.int32) for encoded in self._tokenizer.encode_batch_fast(some)
            ]
        self._numbers.update(zip(new, range(len(self._numbers), len(self._ids)), strict=True))
        self._lengths = np.concatenate(
            [self._lengths, [len(ids) for ids in self._ids[len(self._lengths) :]]]
        ).astype(np.int64)
        return np.array([self._numbers[text] for text in texts], np.int64)

    def chunks(self, numbers: Numbers, chunk_tokens: int) -> Iterator[tuple[Numbers, Any, Any]]:
        """Cut texts, the long ones first, into chunks of at most so many padded tokens.

        Yields:
            places in `numbers`, token ids [texts, tokens] and attention mask [texts, tokens] as tensors.
        """
        import torch

        order = np.argsort(-self._lengths[numbers], kind="stable")
        start = 0
        while start < len(order):
            longest = int(self._lengths[numbers[order[start]]])
            width = -(-longest // MULTIPLE) * MULTIPLE
            places = order[start : start + max(1, chunk_tokens // width)]
            ids = np.full((len(places), width), self.padding, np.int64)
            mask = np.zeros((len(places), width), np.int64)
            for row, number in enumerate(numbers[places]):
                known = self._ids[number]
                ids[row, : len(known)] = known
                mask[row, : len(known)] = 1
            yield places, torch.from_numpy(ids), torch.from_numpy(mask)
            start += len(places)
