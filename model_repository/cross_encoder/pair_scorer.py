"""Pairs of texts to scores on ONNX Runtime, without Triton: what serves is also what is evaluated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from batching import MAX_CHARS, Pair, Scores, join, pack
from device import providers
from tokenizers import Tokenizer

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the cores belong to the neighbours

BATCH = 64
"""Most pairs in one forward: the `max_batch_size` of config.pbtxt."""


class PairScorer:
    """`model.onnx` and `tokenizer.json` of a folder, on ONNX Runtime.

    Args:
        folder: where the two files are.
        threads: that one forward may use.
        device: `cpu`, or `cuda` with perhaps a number, as in `cuda:1`.
    """

    def __init__(self, folder: Path, threads: int = 1, device: str = "cpu") -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._cls, self._sep = map(self._tokenizer.token_to_id, ("[CLS]", "[SEP]"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # it would remember every shape, and packing makes many
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=providers(device)
        )

    def score(self, pairs: Sequence[Pair]) -> Scores:
        """Score pairs of any number, each 64 in one forward; scores [len(pairs)] lie in 0..1."""
        parts = [self._forward(pairs[start : start + BATCH]) for start in range(0, len(pairs), BATCH)]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def _forward(self, pairs: Sequence[Pair]) -> Scores:
        texts = [text[:MAX_CHARS] for pair in pairs for text in pair]
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False)]
        joined = [
            join(left, right, self._cls, self._sep)
            for left, right in zip(tokens[::2], tokens[1::2], strict=True)
        ]
        scores: Scores = self._session.run(["scores"], pack(joined)._asdict())[0]
        return scores
