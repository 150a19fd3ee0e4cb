"""The command `prune`: a smaller model of the same kind, by what a shop's texts use of it."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from model_factory.compression import bert, convert, corpus, structure, vocabulary
from model_factory.training.runs import write_atomically

MEASURED = 1_024
"""Texts by which heads and neurons are weighed."""

console = Console(stderr=True)


def prune(
    model: Annotated[Path, typer.Argument(help="Hugging Face folder, as RUN/model of a training.")],
    output: Annotated[Path, typer.Argument(help="Folder of the smaller model.")],
    texts: Annotated[
        list[Path],
        typer.Option(help="Prepared data, products (.jsonl), offers (.csv) or lines (.txt); repeatable."),
    ],
    layers: Annotated[str | None, typer.Option(help="Layers to keep, as in 0,2,5.")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads of a layer to keep.", min=1)] = None,
    neurons: Annotated[
        int | None, typer.Option(help="Neurons of each feed-forward part to keep.", min=1)
    ] = None,
    pieces: Annotated[
        bool, typer.Option("--vocabulary", help="Keep the pieces of words the texts use.")
    ] = False,
    least: Annotated[int, typer.Option(help="Times that a piece must be seen to stay.", min=1)] = 1,
    general: Annotated[
        int, typer.Option(help="Words of general English that stay in any case.", min=0)
    ] = 6_000,
    seed: Annotated[
        int, typer.Option(help="Of the choice of texts that heads and neurons are weighed by.")
    ] = 7,
) -> None:
    """Take out of a model what texts need least: words, layers, heads, neurons.

    Example: model-factory prune runs/encoder/model runs/pruned/model --texts data/prepared --vocabulary
    --neurons 1024

    The result is a folder as before: train it on (`train encoder --set model.base=FOLDER`), then export it.
    """
    if not (pieces or layers or heads or neurons):
        raise typer.BadParameter("say what to prune: --vocabulary, --layers, --heads or --neurons.")
    pruned = before = bert.read(model)
    said = corpus.read(texts)
    done: dict[str, Any] = {"texts": len(said)}
    if layers:
        chosen = _numbers(layers)
        pruned = structure.keep_layers(pruned, chosen)
        done["layers"] = chosen
    if heads or neurons:
        some = random.Random(seed).sample(said, min(MEASURED, len(said)))
        with console.status("weighing heads and neurons"):
            importance = structure.measure(model, before, [text for text, _ in some], convert.ENCODER_TOKENS)
        rows = done.get("layers", range(before.layers))
        if heads:
            pruned = structure.keep_heads(pruned, importance.heads[rows], heads)
            done["heads"] = heads
        if neurons:
            pruned = structure.keep_neurons(pruned, importance.neurons[rows], neurons)
            done["neurons"] = neurons
    tokenizer = (model / "tokenizer.json").read_text(encoding="utf-8")
    if pieces:
        told = json.loads(tokenizer)
        ids = vocabulary.kept(
            told, vocabulary.count(model / "tokenizer.json", [text for text, _ in said]), least, general
        )
        pruned = vocabulary.select(pruned, ids)
        tokenizer = json.dumps(vocabulary.rewritten(told, ids), ensure_ascii=False)
        done["vocabulary"] = len(ids)
    output.mkdir(parents=True, exist_ok=True)
    if (model / "tokenizer_config.json").exists():
        shutil.copy(model / "tokenizer_config.json", output / "tokenizer_config.json")
    bert.save(pruned, output, prefix="bert." if pruned.is_cross_encoder else "")
    (output / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    training = {**convert.training(model), "pruned": done}
    write_atomically(output / "training.json", (json.dumps(training, indent=2) + "\n").encode())
    console.print(
        f"wrote {output}: {_parameters(before):,} weights became {_parameters(pruned):,} "
        f"({', '.join(f'{name}: {value}' for name, value in done.items())})"
    )


def _numbers(said: str) -> list[int]:
    try:
        return [int(part) for part in said.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--layers {said}: write numbers from 0, as in 0,2,5.") from None


def _parameters(model: bert.Bert) -> int:
    return sum(int(array.size) for array in model.weights.values())
