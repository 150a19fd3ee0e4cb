"""The code and the weights of the model repository, loaded without Triton, to measure what serves."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stream.models.repository import DEFAULT

Floats = NDArray[np.float32]


class TextEncoder(Protocol):
    """See model_repository/encoder/text_encoder.py."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Encode one or more texts in one forward."""


class Network(Protocol):
    """See model_repository/reranker/network.py."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns that the weights belong to."""

    def score(self, features: Floats) -> Floats:
        """Score rows: features [n, F] to scores [n], higher is better."""


def load_encoder(folder: Path, threads: int = 1) -> TextEncoder:
    """Load the encoder of a version's folder: `model.onnx` and `tokenizer.json`.

    Raises:
        ImportError: onnxruntime or tokenizers is missing.
    """
    encoder: TextEncoder = load_module(DEFAULT / "encoder", "text_encoder").TextEncoder(folder, threads)
    return encoder


def load_reranker(folder: Path) -> Network:
    """Load the reranker of a version's folder: `weights.npz`.

    Raises:
        OSError, KeyError, ValueError: there are none, or damaged ones.
    """
    network: Network = load_module(DEFAULT / "reranker", "network").Network.load(folder / "weights.npz")
    return network


def load_module(folder: Path, name: str) -> Any:
    """Import a module of a model, and its siblings, as Triton would: by their bare names.

    The names are forgotten again, since several models have modules of the same name.
    """
    siblings = [path.stem for path in folder.glob("*.py")]
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(f"served_{name}", folder / f"{name}.py")
        if spec is None or spec.loader is None:
            raise ImportError(f"{folder / name}.py cannot be loaded", name=name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(folder))
        for sibling in siblings:
            sys.modules.pop(sibling, None)
