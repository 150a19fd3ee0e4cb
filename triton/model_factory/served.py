"""The code of model_repository/, loaded from where it is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from stream.models.loading import TextEncoder as TextEncoder
from stream.models.loading import load_encoder as load_encoder
from stream.models.loading import load_module

BATCH = 64
"""The `max_batch_size` of the encoder."""

MODEL_REPOSITORY = Path(__file__).parents[2] / "model_repository"


def highest_version(model: Path) -> Path:
    """Return the folder of the highest version of a model; of version 1 where there is none yet."""
    found = [path for path in model.glob("*") if path.name.isdigit() and path.is_dir()]
    return max(found, key=lambda path: int(path.name), default=model / "1")


ENCODER = highest_version(MODEL_REPOSITORY / "encoder")
PUBLISHED_ENCODER = MODEL_REPOSITORY / "encoder" / "1"
"""MiniLM as published, in 8 bits: what ours are measured against."""
CROSS_ENCODER = highest_version(MODEL_REPOSITORY / "cross_encoder")
RERANKER = highest_version(MODEL_REPOSITORY / "reranker")


class PairScorer(Protocol):
    """See model_repository/cross_encoder/pair_scorer.py."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Score pairs (left, right) of any number, 0..1 each, 64 in one forward."""


def load_cross_encoder(folder: Path, threads: int = 1) -> PairScorer:
    """Load the cross-encoder whose weights are in `folder` (`model.onnx`, `tokenizer.json`)."""
    scorer: PairScorer = load_module(MODEL_REPOSITORY / "cross_encoder", "pair_scorer").PairScorer(
        folder, threads
    )
    return scorer


def on_device(model: str, folder: Path, device: str) -> Callable[[Sequence[Any]], NDArray[np.float32]]:
    """Load `encoder` or `cross_encoder` on `cpu` or `cuda`; return its function of a batch."""
    if model == "encoder":
        encoder = load_module(MODEL_REPOSITORY / model, "text_encoder").TextEncoder(folder, device=device)
        return cast(Callable[[Sequence[Any]], NDArray[np.float32]], encoder.encode)
    scorer = load_module(MODEL_REPOSITORY / model, "pair_scorer").PairScorer(folder, device=device)
    return cast(Callable[[Sequence[Any]], NDArray[np.float32]], scorer.score)


def batching(model: str) -> Any:
    """Return the module `batching` of a model: its budget of tokens, its buckets, how it packs."""
    return load_module(MODEL_REPOSITORY / model, "batching")
