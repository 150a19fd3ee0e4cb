"""Compare the methods of fine-tuning by one recipe; the command `train methods`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import typer

from model_factory.evaluation import report
from model_factory.training import encoder, runs
from model_factory.training.recipe import EncoderRecipe, Kind, read
from model_factory.training.validation import Judged, keep, kept
from stream.evaluation.intervals import LEVEL, RESAMPLES, Bootstrap

RATES = {"full": 1.0, "lora": 5.0, "adalora": 10.0, "adapter": 5.0, "prefix": 20.0}
"""Learning rate of a method in that of the recipe: the fewer the weights, the longer their steps."""
CALL = "from model_factory.cli import main; main()"
QUALITY = {
    "same_product_accuracy_at_1": "accuracy@1",
    "query_ndcg_at_10": "nDCG@10",
    "query_recall_at_10": "recall@10",
}
"""Columns of the figures."""
UNTRAINED = "not trained"

Figures = dict[str, dict[str, float]]
"""By a figure's name its value and the bounds of its interval."""


def compare_methods(
    data: Annotated[Path, typer.Argument(help="Folder that `model-factory prepare` wrote.", exists=True)],
    output: Annotated[Path, typer.Argument(help="Folder of the runs and of methods.md and methods.json.")],
    steps: Annotated[int, typer.Option(help="Steps of every method.", min=1)] = 500,
    recipe: Annotated[str, typer.Option(help="A TOML file, or the name of a shipped recipe.")] = "encoder",
    changes: Annotated[
        list[str], typer.Option("--set", help="A value of the recipe that all methods share.")
    ] = [],  # noqa: B006 - typer's way
    only: Annotated[list[str], typer.Option(help="Compare these methods; else all.")] = [],  # noqa: B006
) -> None:
    """Train by every method for as many steps, each in a process of its own, and write a table.

    Example: model-factory train methods data/prepared runs/methods --steps 300

    Quality is that of the validation split, time that of training. Every method sees the same batches in the
    same order. The same command goes on with an interrupted comparison. The recipe's learning rate is
    multiplied: full 1, lora and adapter 5, adalora 10, prefix 20. A limit of minutes in the recipe holds for
    each method: --set budget.minutes=60 where it would end one before its steps.
    """
    runs.require_train_extra("torch", "transformers", "tensorboard", "matplotlib", "pyarrow", "peft")
    changes = [*changes, f"budget.steps={steps}"]
    kinds = only or list(get_args(Kind))
    for kind in kinds:
        read(recipe, EncoderRecipe, [*changes, f"method.kind={kind}"])
    said = read(recipe, EncoderRecipe, changes)
    output.mkdir(parents=True, exist_ok=True)
    untrained = output / "untrained.npz"
    if not untrained.exists():
        keep(untrained, encoder.judge_base(data, said))
    judged = {UNTRAINED: kept(untrained)}
    summaries = {}
    for kind in kinds:
        folder = output / kind
        if not (folder / "model" / "training.json").exists():
            _train(kind, said.optimiser.learning_rate * RATES[kind], data, folder, recipe, changes)
        summaries[kind] = json.loads((folder / "model" / "training.json").read_text())
        judged[kind] = kept(folder / encoder.JUDGED)
    quality = figures(judged)
    gains = figures(judged, kinds[0])
    written = markdown(summaries, quality, gains)
    runs.write_atomically(output / "methods.md", written.encode())
    found = {
        "interval": f"percentile bootstrap over clusters of offers and over queries, {LEVEL:.0%}, "
        f"{RESAMPLES} resamples; differences paired",
        "quality": quality,
        f"against_{kinds[0]}": gains,
        "methods": summaries,
    }
    runs.write_atomically(output / "methods.json", (json.dumps(found, indent=2) + "\n").encode())
    typer.echo(written)


def _train(kind: str, rate: float, data: Path, folder: Path, recipe: str, changes: list[str]) -> None:
    """Train by one method in a process of its own, so that its peak of memory is its own."""
    said = [*changes, f"method.kind={kind}", f"optimiser.learning_rate={rate!r}"]
    arguments = ["train", "encoder", str(data), str(folder), "--recipe", recipe, "--resume"]
    call = [sys.executable, "-P", "-c", CALL, *arguments]
    ended = subprocess.run([*call, *(word for change in said for word in ("--set", change))])
    if ended.returncode:
        raise typer.Exit(ended.returncode)


def figures(judged: Mapping[str, Mapping[str, Judged]], against: str | None = None) -> dict[str, Figures]:
    """Return each model's figures with intervals, or how much more they are than those of one of them."""
    found: dict[str, Figures] = {model: {} for model in judged if model != against}
    for name in next(iter(judged.values())):
        columns = [model[name].values for model in judged.values()]
        groups = next(iter(judged.values()))[name].groups
        bootstrap = Bootstrap(np.stack(columns, axis=1), groups)
        places = {model: place for place, model in enumerate(judged)}
        for model in found:
            interval = (
                bootstrap.mean(places[model])
                if against is None
                else bootstrap.difference(places[model], places[against])
            )
            found[model][name] = interval.rounded()
    return found


def markdown(
    summaries: Mapping[str, Mapping[str, Any]], quality: Mapping[str, Figures], gains: Mapping[str, Figures]
) -> str:
    """Return two tables: what a method reaches and costs, and how that differs from the first one's."""
    named = [name for name in QUALITY if name in quality[UNTRAINED]]
    header = [QUALITY[name] for name in named]
    rows = [
        (UNTRAINED, *(report.written(quality[UNTRAINED][name]) for name in named), "0", "0 %", "", "", "")
    ]
    for kind, summary in summaries.items():
        parameters, memory = summary["parameters"], summary["peak_memory_bytes"]
        peak = memory.get("gpu", memory["process"])
        rows.append(
            (
                kind,
                *(report.written(quality[kind][name]) for name in named),
                f"{parameters['trained']:,}",
                f"{parameters['trained'] / parameters['all']:.1%}",
                f"{summary['wall_s']:,.0f}",
                f"{peak / 2**20:,.0f} MiB" + (" of the GPU" if "gpu" in memory else ""),
                "yes" if summary["exportable"] else "no",
            )
        )
    steps = ", ".join(sorted({f"{summary['steps']:,}" for summary in summaries.values()}))
    first = next(iter(summaries))
    tables = [
        report.Table(
            f"Methods after {steps} steps",
            ("method", *header, "trained", "share", "seconds", "peak memory", "can be served"),
            rows,
        ),
        report.Table(
            f"Against {first}",
            ("method", *header),
            [
                (model, *(report.written(gain[name], sign=True) for name in named))
                for model, gain in gains.items()
            ],
        ),
    ]
    return "\n".join(map(report.as_markdown, tables))
