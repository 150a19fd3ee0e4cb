"""The code of model_repository/, loaded from where it is served."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BATCH = 64
"""The `max_batch_size` of the encoder."""

MODEL_REPOSITORY = Path(__file__).parents[2] / "model_repository"
ENCODER = MODEL_REPOSITORY / "encoder" / "1"
RERANKER = MODEL_REPOSITORY / "reranker" / "1"


class TextEncoder(Protocol):
    """See model_repository/encoder/1/text_encoder.py."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode one or more texts in one forward."""


def load_encoder(folder: Path, threads: int = 1) -> TextEncoder:
    """Load the encoder whose weights are in `folder` (`model.onnx`, `tokenizer.json`)."""
    encoder: TextEncoder = _module(ENCODER, "text_encoder").TextEncoder(folder, threads)
    return encoder


def reranker_network() -> Any:
    """Return the class `Network` of model_repository/reranker/1/network.py."""
    return _module(RERANKER, "network").Network


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
