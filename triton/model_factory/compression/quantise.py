"""The command `quantise`: the two files that serve, in fewer bits, without a version's manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model_factory.compression import convert, corpus, parity
from model_factory.compression.bert import read
from model_factory.compression.graph import Pooling, Precision

COMPARED = 256

console = Console(stderr=True)


def quantise(
    model: Annotated[Path, typer.Argument(help="Hugging Face folder, as RUN/model of a training.")],
    output: Annotated[Path, typer.Argument(help="Folder for model.onnx and tokenizer.json.")],
    precision: Annotated[
        Precision, typer.Option("--to", help="int8 for a CPU, fp16 for a GPU, fp32 to compare.")
    ] = "int8",
    pooling: Annotated[Pooling, typer.Option(help="How an encoder makes one vector of many.")] = "mean",
    texts: Annotated[
        list[Path] | None,
        typer.Option(help="Compare an encoder with torch on texts of these, see `prune`; repeatable."),
    ] = None,
) -> None:
    """Write a model in fewer bits, as it would serve, and say what that costs.

    Example: model-factory quantise runs/encoder/model runs/int8 --to int8
    --texts ../shared/data/icecat/products.jsonl.gz

    `model-factory export` does the same for a version to serve, with its manifest.
    """
    cross_encoder = read(model).is_cross_encoder
    if cross_encoder and texts:
        raise typer.BadParameter(
            "a cross-encoder reads pairs: `model-factory export cross-encoder` compares."
        )
    convert.convert(model, output, precision, pooling)
    before = (model / "model.safetensors").stat().st_size
    after = (output / "model.onnx").stat().st_size
    console.print(f"wrote {output}: {before / 1e6:.1f} MB became {after / 1e6:.1f} MB")
    if texts:
        some = [text for text, _ in corpus.read(texts)[:COMPARED]]
        expected = parity.torch_vectors(model, some, convert.ENCODER_TOKENS, pooling)
        console.print("cosine with the 32-bit model in torch:", parity.compare(output, expected, some))
