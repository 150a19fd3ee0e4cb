"""From weights to a version that Triton serves: graph, parity with torch, evaluation, manifest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from model_factory import manifest, published, served
from model_factory.compression import convert, parity
from model_factory.compression.graph import Pooling, Precision
from model_factory.evaluation import inputs
from model_factory.evaluation import search as search_evaluation
from stream.models.repository import new_version

PARITY_TEXTS = 512

console = Console(stderr=True)


def export_encoder(
    products: Annotated[Path, typer.Option(help="Catalogue, whose texts are compared.", exists=True)],
    qrels: Annotated[
        Path | None, typer.Option(help="Judgements: evaluate search too, for the manifest.", exists=True)
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Hugging Face folder, as RUN/model of a training; else the published MiniLM of a package."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the version, model_repository/encoder/VERSION.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="int8 for a CPU, fp16 for a GPU.")] = "int8",
    pooling: Annotated[Pooling, typer.Option(help="How the model makes one vector of many.")] = "mean",
    threads: Annotated[int, typer.Option(help="Threads of the evaluation.", min=1)] = 1,
) -> None:
    """Make model.onnx, tokenizer.json and MANIFEST.json of an encoder, compare it with torch, measure it.

    Example: model-factory export encoder --model runs/encoder/model --output model_repository/encoder/2
    --products ../shared/data/icecat/products.jsonl.gz --qrels ../shared/data/icecat/qrels.csv

    Nothing is written where the vectors stray from those of torch.
    """
    if output is None:
        if model is not None:
            raise typer.BadParameter(
                "name the version's folder with --output, as model_repository/encoder/2."
            )
        output = served.PUBLISHED_ENCODER
    refuse_if_served(output)
    folder = published.find_weights(None) if model is None else model
    with tempfile.TemporaryDirectory() as made_in:
        made = Path(made_in)
        with console.status("writing the graph"):
            convert.convert(folder, made, precision, pooling)
        with console.status("comparing with torch"):
            texts = [product.text for product in inputs.read_products(products)[:PARITY_TEXTS]]
            texts += sorted(inputs.read_qrels(qrels)) if qrels else []
            expected = parity.torch_vectors(folder, texts, convert.ENCODER_TOKENS, pooling)
            cosines = parity.compare(made, expected, texts)
        console.print("cosine with the 32-bit model in torch:", cosines)
        if parity.too_far(cosines, precision):
            console.print(
                f"The vectors stray too far from torch's, so nothing is written: in {precision} the least "
                f"cosine may be {parity.WORST_COSINE[precision]}."
            )
            raise typer.Exit(1)
        figures: dict[str, Any] = {"cosine": cosines}
        if qrels:
            figures["search"] = _summary(search_evaluation.evaluate(products, qrels, made, threads))
        with written_whole(output) as place:
            for name in convert.FILES:
                shutil.copy(made / name, place / name)
            shutil.copy(served.PUBLISHED_ENCODER / "model.py", place / "model.py")
            task = "texts to vectors of length 1"
            describe(place, folder, precision, "encoder", task, figures, version=output.name)
    console.print(f"wrote {output}")
    for name, system in figures.get("search", {}).get("ndcg_at_10", {}).items():
        console.print(
            f"{name:24} nDCG@10 {system['judged']['value']:.3f} / {system['catalogue']['value']:.3f}"
        )


def refuse_if_served(output: Path) -> None:
    """Refuse to write over a version of a model repository.

    Raises:
        typer.BadParameter: it is there already.
    """
    if (output.parent / "config.pbtxt").is_file() and (output / manifest.NAME).exists():
        raise typer.BadParameter(
            f"{output} exists, and versions that serve are never written over: name the next number."
        )


@contextmanager
def written_whole(output: Path) -> Iterator[Path]:
    """Give a folder to fill; a version of a model repository appears there whole or not at all."""
    if (output.parent / "config.pbtxt").is_file():
        shutil.rmtree(output, ignore_errors=True)  # without a manifest it is no version, see above
        with new_version(output.parent, output.name) as place:
            yield place
    else:
        output.mkdir(parents=True, exist_ok=True)
        yield output


def describe(
    output: Path,
    folder: Path,
    precision: Precision,
    model: str,
    task: str,
    figures: Mapping[str, Any],
    version: str,
) -> None:
    """Write the manifest of an exported version.

    Args:
        folder: that the weights are from.
        model, task, version: what it is and does.
    """
    said = portable(convert.training(folder))
    weights = manifest.sha256(folder / "model.safetensors")
    origin: dict[str, Any] = {
        "model": said.get("base", published.MODEL if weights == published.WEIGHTS_SHA256 else "unknown"),
        "weights_sha256": weights,
    }
    if weights == published.WEIGHTS_SHA256:
        origin["carried_by"] = list(published.CARRIED_BY)
    manifest.write(
        output,
        files=(*convert.FILES, "model.py"),
        packages=("torch", "transformers", "onnx", "onnxruntime"),
        model=model,
        version=version,
        task=task,
        origin=origin,
        licence="Apache-2.0, by the authors of the base; changed here: another graph, "
        f"{'trained further, ' if said else ''}weights in {precision}",
        made=f"model-factory export {model.replace('_', '-')}: packed rows, "
        + {
            "int8": "dynamic int8 per channel (7 bits, so that processors with and without VNNI agree)",
            "fp16": "16 bits, for a GPU",
            "fp32": "32 bits",
        }[precision],
        data_sha256=said.get("data"),
        training={name: value for name, value in said.items() if name not in ("figures", "data")},
        figures={**figures, **({"training": said["figures"]} if "figures" in said else {})},
    )


def portable(said: Any) -> Any:
    """Return JSON values with the names of files in place of their paths, which say nothing elsewhere."""
    if isinstance(said, Mapping):
        return {name: portable(value) for name, value in said.items()}
    if isinstance(said, list):
        return [portable(value) for value in said]
    if isinstance(said, str) and Path(said).is_absolute():
        return Path(said).name
    return said


def _summary(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of an evaluation what a manifest needs."""
    return {
        "data": figures["data"],
        "interval": figures["interval"],
        "ndcg_at_10": {
            name: {scope: metrics["ndcg_at_10"] for scope, metrics in system.items()}
            for name, system in figures["systems"].items()
        },
    }
