"""From a Hugging Face folder to the two files that serve: `model.onnx` and `tokenizer.json`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from model_factory import served
from model_factory.compression import bert, graph
from model_factory.compression.graph import Pooling, Precision

FILES = ("model.onnx", "tokenizer.json")
ENCODER_TOKENS = served.batching("encoder").MAX_TOKENS
CROSS_ENCODER_TOKENS = served.batching("cross_encoder").MAX_TOKENS


def convert(folder: Path, output: Path, precision: Precision, pooling: Pooling = "mean") -> None:
    """Write the two files of an encoder or a cross-encoder into `output`, which is made where it is missing.

    Args:
        folder: of config.json, model.safetensors and tokenizer.json.
        pooling: of an encoder, see `graph.encoder`.

    Raises:
        typer.BadParameter: the folder holds no model that can be exported, or onnx is missing.
    """
    said = training(folder)
    if not said.get("exportable", True):
        raise typer.BadParameter(
            f"{folder} holds {said.get('model_is', 'a model')}, which is no plain BERT: train it by a method "
            "whose weights can be merged (full, lora, adalora)."
        )
    model = bert.read(folder)
    check_onnx()
    if model.is_cross_encoder:
        made = graph.cross_encoder(model, precision, CROSS_ENCODER_TOKENS)
    else:
        made = graph.encoder(model, precision, ENCODER_TOKENS, pooling)
    output.mkdir(parents=True, exist_ok=True)
    graph.save(made, output / "model.onnx")
    shutil.copy(folder / "tokenizer.json", output / "tokenizer.json")


def training(folder: Path) -> Mapping[str, Any]:
    """Return what `training.json` of a folder says; nothing where there is none."""
    path = folder / "training.json"
    try:
        said: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from None
    return said


def check_onnx() -> None:
    """Refuse to go on where the library that writes graphs is missing."""
    try:
        import onnx
    except ImportError:
        raise typer.BadParameter("onnx is missing: pip install 'streamrec[train]'") from None
    del onnx
