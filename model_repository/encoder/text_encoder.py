"""Texts to vectors on ONNX Runtime, without Triton: what serves is also what is evaluated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
from batching import MAX_TOKENS, Vectors, pack
from device import providers
from tokenizers import Tokenizer

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the cores belong to the neighbours


class TextEncoder:
    """`model.onnx` and `tokenizer.json` of a folder, on ONNX Runtime.

    Args:
        folder: where the two files are.
        threads: that one forward may use.
        device: `cpu`, or `cuda` with perhaps a number, as in `cuda:1`.
    """

    def __init__(self, folder: Path, threads: int = 1, device: str = "cpu") -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # it would remember every shape, and packing makes many
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=providers(device)
        )

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode one or more texts in one forward; the vectors are [len(texts), 384], of length 1."""
        encodings = self._tokenizer.encode_batch(list(texts))
        packed = pack([encoding.ids for encoding in encodings])
        vectors: Vectors = self._session.run(["embeddings"], packed._asdict())[0]
        return vectors
