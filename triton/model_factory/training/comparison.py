"""Compare the methods of fine-tuning by one recipe; the command `train methods`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from model_factory.training import runs
from model_factory.training.recipe import EncoderRecipe, Kind, read

RATES = {"full": 1.0, "lora": 5.0, "adalora": 10.0, "adapter": 5.0, "prefix": 20.0}
"""Learning rate of a method in that of the recipe: the fewer the weights, the longer their steps."""
CALL = "from model_factory.cli import main; main()"
COLUMNS = (
    "method",
    "trained",
    "share",
    "accuracy@1",
    "nDCG@10",
    "recall@10",
    "minutes",
    "peak memory",
    "served",
)


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

    Quality is that of the validation split, time that of training. The same command goes on with an
    interrupted comparison. The recipe's learning rate is multiplied: full 1, lora and adapter 5, adalora 10,
    prefix 20.
    """
    runs.require_train_extra("torch", "transformers", "tensorboard", "matplotlib", "pyarrow", "peft")
    changes = [*changes, f"budget.steps={steps}"]
    kinds = only or list(get_args(Kind))
    for kind in kinds:
        read(recipe, EncoderRecipe, [*changes, f"method.kind={kind}"])
    rate = read(recipe, EncoderRecipe, changes).optimiser.learning_rate
    output.mkdir(parents=True, exist_ok=True)
    summaries = {}
    for kind in kinds:
        folder = output / kind
        if not (folder / "model" / "training.json").exists():
            said = [*changes, f"method.kind={kind}", f"optimiser.learning_rate={rate * RATES[kind]!r}"]
            arguments = ["train", "encoder", str(data), str(folder), "--recipe", recipe, "--resume"]
            call = [sys.executable, "-P", "-c", CALL, *arguments]
            ended = subprocess.run([*call, *(word for change in said for word in ("--set", change))])
            if ended.returncode:
                raise typer.Exit(ended.returncode)
        summaries[kind] = json.loads((folder / "model" / "training.json").read_text())
    first = next(iter(summaries))
    before = next(row["validation"] for row in runs.read_metrics(output / first) if row["step"] == 0)
    table = markdown(summaries, before)
    runs.write_atomically(output / "methods.md", table.encode())
    said = json.dumps({"before": before, "methods": summaries}, indent=2) + "\n"
    runs.write_atomically(output / "methods.json", said.encode())
    typer.echo(table)


def markdown(summaries: dict[str, dict[str, Any]], before: dict[str, float]) -> str:
    """Return the table: quality, trained parameters, time, memory, and whether the result can be served."""
    rows = [("not trained", "0", "0 %", *_quality(before), "", "", "")]
    for kind, summary in summaries.items():
        parameters, memory = summary["parameters"], summary["peak_memory_bytes"]
        peak = memory.get("gpu", memory["process"])
        rows.append(
            (
                kind,
                f"{parameters['trained']:,}",
                f"{parameters['trained'] / parameters['all']:.1%}",
                *_quality(summary["figures"]),
                f"{summary['wall_s'] / 60:.1f}",
                f"{peak / 2**20:,.0f} MiB" + (" of the GPU" if "gpu" in memory else ""),
                "yes" if summary["exportable"] else "no",
            )
        )
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _quality(figures: dict[str, float]) -> tuple[str, ...]:
    names = ("same_product_accuracy_at_1", "query_ndcg_at_10", "query_recall_at_10")
    return tuple(f"{figures[name]:.3f}" if name in figures else "" for name in names)
