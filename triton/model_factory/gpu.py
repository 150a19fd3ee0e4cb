"""The model repository for a GPU: the command `gpu` writes it from the one for a CPU and `triton/gpu/`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model_factory import manifest, served
from model_factory.compression import sixteen_bits

OVERLAYS = Path(__file__).resolve().parents[1] / "gpu"
"""MODEL.pbtxt: what differs from the model's config.pbtxt."""

console = Console(stderr=True)


def gpu(
    output: Annotated[Path, typer.Argument(help="Folder of the new repository; must not exist yet.")],
    repository: Annotated[
        Path, typer.Option(help="The model repository for a CPU.", exists=True)
    ] = served.MODEL_REPOSITORY,
    overlays: Annotated[
        Path, typer.Option(help="Folder of MODEL.pbtxt: what differs on a GPU.", exists=True)
    ] = OVERLAYS,
) -> None:
    """Write a model repository for a GPU: graphs in 16 bits, instances, batches and queues as it likes them.

    Example: model-factory gpu /models

    Of a model with an overlay the highest version is taken; the others, small ones, stay on the CPU.
    """
    if output.exists():
        raise typer.BadParameter(f"{output} is there already: name a folder that is not.")
    for config in sorted(repository.glob("*/config.pbtxt")):
        model = config.parent
        overlay = overlays / f"{model.name}.pbtxt"
        place = output / model.name
        if not overlay.exists():
            shutil.copytree(model, place, ignore=shutil.ignore_patterns("__pycache__"))
            console.print(f"{model.name}: on the CPU, as it is")
            continue
        version = served.highest_version(model)
        shutil.copytree(model, place, ignore=_other_versions(model, version))
        sixteen_bits.convert(version / "model.onnx", place / version.name / "model.onnx")
        (place / "config.pbtxt").write_text(merged(config.read_text(), overlay.read_text()))
        if (place / version.name / manifest.NAME).exists():
            manifest.update(
                place / version.name, on_a_gpu="16 bits, made of the 8-bit weights of this version"
            )
        console.print(f"{model.name}: version {version.name} in 16 bits, on the GPU")


def merged(config: str, overlay: str) -> str:
    """Return a model's config, in protobuf's text, with the overlay's fields in place of its own.

    Parameters are joined by key; every other field that the overlay has replaces the config's whole.
    """
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    base = text_format.Parse(config, ModelConfig())
    change = text_format.Parse(overlay, ModelConfig())
    for field, _ in change.ListFields():
        if field.name != "parameters":
            base.ClearField(field.name)
    base.MergeFrom(change)
    written: str = text_format.MessageToString(base)
    return written


def _other_versions(model: Path, kept: Path) -> Callable[[str, list[str]], set[str]]:
    others = {path.name for path in model.iterdir() if path.name.isdigit() and path != kept}

    def ignored(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name == "__pycache__" or (Path(folder) == model and name in others)}

    return ignored
