"""Vectors of items' texts by the encoder that serves, remembered on disk.

Each text is encoded by itself: in a batch, int8 activations are scaled together, so a text's vector would
depend on its neighbours, and a log's future on its past.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from stream.core.items import DIMENSIONS, FloatArray
from stream.models.loading import load_encoder
from stream.models.manifest import sha256
from stream.models.repository import DEFAULT, versions

MODEL = "encoder"
DIGEST_BYTES = 16


class TextVectors(NamedTuple):
    """Vectors [384] by text, and the encoder's version; `missing` says why there are none."""

    by_text: Mapping[str, FloatArray]
    version: str = ""
    missing: str = ""


def text_vectors(
    texts: Sequence[str],
    cache: Path,
    repository: Path = DEFAULT,
    progress: Callable[[int], None] = lambda done: None,
) -> TextVectors:
    """Give the vectors of texts by the highest version of the encoder; those in the cache are not made again.

    Args:
        cache: a folder, which is made; it holds one file for each version of the encoder.
        progress: is told how many texts are done.
    """
    known_versions = versions(repository, MODEL)
    if not known_versions:
        return TextVectors({}, missing=f"{repository / MODEL} has no version")
    version = known_versions[-1]
    folder = repository / MODEL / version
    if not (folder / "model.onnx").is_file():
        return TextVectors({}, missing=f"{folder / 'model.onnx'} is not there")
    file = cache / f"{MODEL}-{version}-{sha256(folder / 'model.onnx')[:12]}.npz"
    known = _read(file)
    digests = [hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest() for text in texts]
    new = [(digest, text) for digest, text in zip(digests, texts, strict=True) if digest not in known]
    if new:
        try:
            encoder = load_encoder(folder)
        except ImportError as error:
            return TextVectors({}, missing=f"{error.name} is missing: pip install 'streamrec[evaluate]'")
        for done, (digest, text) in enumerate(new, 1):
            known[digest] = encoder.encode([text])[0].astype(np.float32)
            progress(len(texts) - len(new) + done)
        _write(file, known)
    progress(len(texts))
    return TextVectors(
        {text: known[digest] for text, digest in zip(texts, digests, strict=True)}, f"{MODEL} {version}"
    )


def _read(file: Path) -> dict[bytes, FloatArray]:
    """What the cache holds; a file that cannot be read holds nothing and is written anew."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            digests, vectors = arrays["digests"], arrays["vectors"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return {}
    if vectors.shape != (len(digests), DIMENSIONS):
        return {}
    return {digest.tobytes(): vector for digest, vector in zip(digests, vectors, strict=True)}


def _write(file: Path, known: Mapping[bytes, FloatArray]) -> None:
    """Write the cache whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    digests = np.frombuffer(b"".join(known), np.uint8).reshape(-1, DIGEST_BYTES)
    handle, partial = tempfile.mkstemp(dir=file.parent, suffix=".partial")
    with os.fdopen(handle, "wb") as opened:
        np.savez(opened, digests=digests, vectors=np.stack(list(known.values())))
    Path(partial).replace(file)
