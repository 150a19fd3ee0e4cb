"""The code of model_repository/, loaded from where it is served."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

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


class TextEncoder(Protocol):
    """See model_repository/encoder/text_encoder.py."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode one or more texts in one forward."""


def load_encoder(folder: Path, threads: int = 1) -> TextEncoder:
    """Load an encoder with the code that serves: `folder` has `model.onnx` and `tokenizer.json`."""
    encoder: TextEncoder = _module(MODEL_REPOSITORY / "encoder", "text_encoder").TextEncoder(folder, threads)
    return encoder


class PairScorer(Protocol):
    """See model_repository/cross_encoder/pair_scorer.py."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Score pairs (left, right) of any number, 0..1 each, 64 in one forward."""


def load_cross_encoder(folder: Path, threads: int = 1) -> PairScorer:
    """Load the cross-encoder whose weights are in `folder` (`model.onnx`, `tokenizer.json`)."""
    scorer: PairScorer = _module(MODEL_REPOSITORY / "cross_encoder", "pair_scorer").PairScorer(
        folder, threads
    )
    return scorer


def on_device(model: str, folder: Path, device: str) -> Callable[[Sequence[Any]], NDArray[np.float32]]:
    """Load `encoder` or `cross_encoder` on `cpu` or `cuda`; return its function of a batch."""
    if model == "encoder":
        encoder = _module(MODEL_REPOSITORY / model, "text_encoder").TextEncoder(folder, device=device)
        return cast(Callable[[Sequence[Any]], NDArray[np.float32]], encoder.encode)
    scorer = _module(MODEL_REPOSITORY / model, "pair_scorer").PairScorer(folder, device=device)
    return cast(Callable[[Sequence[Any]], NDArray[np.float32]], scorer.score)


def batching(model: str) -> Any:
    """Return the module `batching` of a model: its budget of tokens, its buckets, how it packs."""
    return _module(MODEL_REPOSITORY / model, "batching")


def reranker_network() -> Any:
    """Return the class `Network` of model_repository/reranker/network.py."""
    return _module(MODEL_REPOSITORY / "reranker", "network").Network


def _module(folder: Path, name: str) -> Any:
    """Import a module of a model, and its siblings, as Triton would: by their bare names.

    The names are forgotten again, since several models have modules of the same name.
    """
    siblings = [path.stem for path in folder.glob("*.py")]
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(f"served_{name}", folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(folder))
        for sibling in siblings:
            sys.modules.pop(sibling, None)
