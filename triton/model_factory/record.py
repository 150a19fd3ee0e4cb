"""`model-factory record`: figures of `evaluate` into manifests, where promotion compares them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from model_factory import manifest
from stream.models.manifest import Measured

SYSTEMS = {"published": ("encoder",), "encoder": ("encoder",), "cross_encoder": ("hybrid_cross_encoder",)}
"""Of which systems of an evaluation a model is the one that counts, by its name there."""

SHOWN = {"encoder": "encoder alone", "hybrid_cross_encoder": "hybrid + cross-encoder"}
METRICS = {
    ("judged", "ndcg_at_10"): "search nDCG@10, judged products",
    ("catalogue", "ndcg_at_10"): "search nDCG@10, whole catalogue",
    ("all", "accuracy_at_1"): "same product, accuracy@1",
}

console = Console(stderr=True)


def record(
    folders: Annotated[
        list[Path], typer.Argument(help="Versions, as model_repository/encoder/2.", exists=True)
    ],
    figures: Annotated[
        list[Path],
        typer.Option(help="What `evaluate search|pairs --json` wrote; several may be named.", exists=True),
    ],
) -> None:
    """Write measured figures into the manifests of the versions that they are of, told by their hashes.

    Where several files hold a figure, the last one named counts. Versions are compared at promotion by
    figures of the same metric on the same data, so measure both.

    Example: model-factory evaluate search --products P --qrels Q --json search.json && model-factory record
    model_repository/encoder/1 model_repository/encoder/2 --figures search.json
    """
    reports = [json.loads(path.read_text()) for path in figures]
    for folder in folders:
        known = manifest.sha256(folder / "model.onnx") if (folder / "model.onnx").is_file() else ""
        newest = {(one.metric, one.data): one for report in reports for one in measured(report, known)}
        found = list(newest.values())
        if not found:
            raise typer.BadParameter(
                f"no figure in {', '.join(map(str, figures))} is of {folder}: their models have other hashes."
            )
        manifest.update(folder, measured=[msgspec.to_builtins(one) for one in found])
        console.print(f"{folder}: {', '.join(f'{one.metric} {one.value:.4f}' for one in found)}")


def measured(report: dict[str, Any], sha256: str) -> Iterator[Measured]:
    """Take from an evaluation what is of the model with a hash."""
    data = report["data"].get("sha256")
    roles = [role for role, model in report["models"].items() if model and model["sha256"] == sha256]
    if data is None or not roles:
        return
    for name in SYSTEMS[roles[-1]]:
        system = report["systems"].get(roles[0] if name == "encoder" else name, {})
        for (scope, metric), said in METRICS.items():
            interval = system.get(scope, {}).get(metric)
            if interval is not None:
                yield Measured(
                    f"{said}, {SHOWN[name]}",
                    data,
                    interval["value"],
                    (interval["low"], interval["high"]),
                )
