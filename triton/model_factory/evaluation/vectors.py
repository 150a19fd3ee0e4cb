"""Texts to vectors with an encoder as it serves, with a progress bar, and kept on disk only if asked."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from model_factory import manifest, served

MAX_CHARS = 2_000
"""What the served encoder looks at of a text."""

Vectors = NDArray[np.float32]


class Encoder:
    """The encoder in a folder of `model.onnx` and `tokenizer.json`.

    Args:
        cache: folder where vectors are kept, by the hashes of the model and of the texts.

    Raises:
        typer.BadParameter: the folder holds no encoder that can be served.
    """

    def __init__(self, folder: Path, threads: int = 1, cache: Path | None = None) -> None:
        self.folder = folder
        self.sha256 = model_sha256(folder, "encoder")
        self._cache = cache
        with refusing(folder, "encoder"):
            self._encoder = served.load_encoder(folder, threads)
            self._encoder.encode(["a first text"])

    def encode(self, texts: Sequence[str], what: str) -> Vectors:
        """Encode texts, as they come, in batches as Triton makes them; shape [texts, dimensions].

        Args:
            what: is being encoded, for the progress bar.
        """
        kept = self._kept(texts)
        if kept is not None and kept.exists():
            stored: Vectors = np.load(kept, allow_pickle=False)
            return stored
        starts = range(0, len(texts), served.BATCH)
        bar = track(starts, f"encoding {what}", console=Console(stderr=True), disable=len(starts) < 4)
        vectors = np.concatenate(
            [
                self._encoder.encode([text[:MAX_CHARS] for text in texts[start : start + served.BATCH]])
                for start in bar
            ]
        )
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, vectors)
        return vectors

    def encode_alone(self, texts: Sequence[str]) -> Vectors:
        """Encode texts each by itself, as the queries of shoppers come; shape [texts, dimensions]."""
        return np.concatenate([self._encoder.encode([text[:MAX_CHARS]]) for text in texts])

    def _kept(self, texts: Sequence[str]) -> Path | None:
        if self._cache is None:
            return None
        said = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
        return self._cache / f"{self.sha256[:16]}-{said[:16]}.npy"


def model_sha256(folder: Path, model: str) -> str:
    """Return the SHA-256 of a folder's graph.

    Raises:
        typer.BadParameter: the folder is not that of an exported model.
    """
    for name in ("model.onnx", "tokenizer.json"):
        if not (folder / name).is_file():
            raise typer.BadParameter(
                f"{folder} holds no {name}: name the folder of an exported {model}, "
                "as model_repository/encoder/1 is one."
            )
    return manifest.sha256(folder / "model.onnx")


@contextlib.contextmanager
def refusing(folder: Path, model: str) -> Iterator[None]:
    """Turn whatever goes wrong while a model loads into a sentence about its folder."""
    try:
        yield
    except ImportError as error:
        raise typer.BadParameter(f"{error.name} is missing: pip install 'streamrec[evaluate]'") from None
    except Exception as error:  # onnxruntime and tokenizers have a class of their own for every fault
        raise typer.BadParameter(f"{folder} holds no {model} that serves: {error}") from None
