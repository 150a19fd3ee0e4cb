"""Whether the served code keeps a GPU as busy as raw torch does; `scripts/gpu-check` runs it."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from model_factory import published, served
from model_factory.compression import bert, convert
from model_factory.evaluation import inputs, report
from model_factory.evaluation.vectors import MAX_CHARS

TARGET = 0.8
NO_GPU = 2
"""Exit status: there is nothing to measure."""
BELOW = 1
"""Exit status: measured, and the served code is slower than it should be."""

BATCHES = (64, 128, 256, 512, 1024, 2048)
SERVED_BATCH = {"encoder": 512, "cross_encoder": 256}
"""The `max_batch_size` of triton/gpu/."""
REPEATS = 5

console = Console(stderr=True)


def gpu_check(
    products: Annotated[
        Path, typer.Option(help="JSON lines (.gz too): id, title, description.", exists=True)
    ],
    encoder: Annotated[
        Path | None, typer.Option(help="Hugging Face folder, as RUN/model; else the published weights.")
    ] = None,
    cross_encoder: Annotated[Path | None, typer.Option(help="Hugging Face folder; else none.")] = None,
    texts: Annotated[int, typer.Option(help="Products, or pairs, in a measurement.", min=1)] = 8192,
    device: Annotated[
        str, typer.Option(help="cuda; with cpu the check itself is tried, and says nothing of a GPU.")
    ] = "cuda",
    json_: Annotated[
        str | None, typer.Option("--json", help="Write the figures to this file; - for standard output.")
    ] = None,
) -> None:
    """Measure texts/s and pairs/s of the served code on a GPU against raw torch at its best batch.

    Example: scripts/gpu-check --products ../shared/data/icecat/products.jsonl.gz --encoder runs/encoder/model

    Ends with 0 where the served code reaches 0.8 of torch, with 1 where not, with 2 where there is no GPU.
    """
    report.check(json_, None)
    if device not in ("cuda", "cpu"):
        raise typer.BadParameter(f"--device {device}: cuda or cpu.")
    card = _card() if device == "cuda" else "none: tried on the CPU"
    if card is None:
        console.print("There is no GPU here (nvidia-smi finds none), so nothing was measured.")
        raise typer.Exit(NO_GPU)
    missing = _missing(device)
    if missing:
        console.print(f"Nothing was measured: {missing}")
        raise typer.Exit(NO_GPU)
    said = [product.text[:MAX_CHARS] for product in inputs.read_products(products) if product.text]
    random.Random(0).shuffle(said)
    said = (said * (texts // len(said) + 1))[:texts]
    pairs = [(left, right) for left, right in zip(said, said[1:] + said[:1], strict=True)]
    folders = {"encoder": encoder or published.find_weights(None), "cross_encoder": cross_encoder}
    figures: dict[str, Any] = {"card": card, "target": TARGET, "models": {}}
    for model, folder in folders.items():
        if folder is not None:
            work: Sequence[Any] = said if model == "encoder" else pairs
            figures["models"][model] = measure(model, folder, work, device)
    report.publish(figures, [_table(figures)], json_, markdown=False)
    if device == "cuda" and min(each["ratio"] for each in figures["models"].values()) < TARGET:
        raise typer.Exit(BELOW)


def measure(model: str, folder: Path, work: Sequence[Any], device: str) -> dict[str, Any]:
    """Return things a second of the served code and of torch, from text to numbers, and their ratio.

    Raises:
        typer.BadParameter: the folder holds another kind of model.
    """
    if bert.read(folder).is_cross_encoder != (model == "cross_encoder"):
        raise typer.BadParameter(f"{folder} holds no {model.replace('_', '-')}.")
    with tempfile.TemporaryDirectory() as made_in:
        made = Path(made_in)
        convert.convert(folder, made, "fp16")
        serving = served.on_device(model, made, device)
        shutil.rmtree(made, ignore_errors=True)
    size = SERVED_BATCH[model]
    here = _per_s(serving, work, size)
    raw = _torch(model, folder, device)
    by_batch = {batch: _per_s(raw, work, batch) for batch in BATCHES if batch <= max(len(work), BATCHES[0])}
    best = max(by_batch, key=lambda batch: by_batch[batch])
    return {
        "served_per_s": round(here, 1),
        "served_batch": size,
        "torch_per_s": round(by_batch[best], 1),
        "torch_batch": best,
        "ratio": round(here / by_batch[best], 3),
    }


def _per_s(run: Callable[[Sequence[Any]], Any], work: Sequence[Any], batch: int) -> float:
    parts = [work[start : start + batch] for start in range(0, len(work), batch)]
    run(parts[0])
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for part in parts:
            run(part)
        times.append(time.perf_counter() - start)
    return len(work) / float(np.median(times))


def _torch(model: str, folder: Path, device: str) -> Callable[[Sequence[Any]], Any]:
    """Return transformers' own model in 16 bits on a GPU, from texts or pairs to numbers on the host."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertForSequenceClassification, BertModel

    kind = BertModel if model == "encoder" else BertForSequenceClassification
    dtype = torch.float16 if device == "cuda" else torch.float32
    network = kind.from_pretrained(folder, attn_implementation="sdpa", dtype=dtype).eval().to(device)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(
        convert.ENCODER_TOKENS if model == "encoder" else convert.CROSS_ENCODER_TOKENS
    )
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]") or 0)

    def run(part: Sequence[Any]) -> Any:
        encodings = tokenizer.encode_batch(list(part))
        ids, mask, segments = (
            torch.tensor([getattr(encoding, name) for encoding in encodings], device=device)
            for name in ("ids", "attention_mask", "type_ids")
        )
        with torch.inference_mode():
            out = network(input_ids=ids, attention_mask=mask, token_type_ids=segments)
            if model == "cross_encoder":
                return torch.sigmoid(out.logits[:, 0]).float().cpu().numpy()
            shared = mask.unsqueeze(-1).to(dtype)
            pooled = (out.last_hidden_state * shared).sum(dim=1) / shared.sum(dim=1)
            return torch.nn.functional.normalize(pooled.float(), dim=1).cpu().numpy()

    return run


def _card() -> str | None:
    """Return the first GPU's name and driver, where there is one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    asked = subprocess.run(
        [program, "--query-gpu=name,driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    lines = asked.stdout.splitlines()
    return lines[0].strip() if asked.returncode == 0 and lines else None


def _missing(device: str) -> str | None:
    """Say what keeps the check from running."""
    try:
        import onnxruntime
        import torch
    except ImportError as error:
        return f"{error.name} is missing: pip install 'streamrec[train]'"
    if device == "cpu":
        return None
    if not torch.cuda.is_available():
        return "torch has no CUDA here: install its CUDA build."
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "onnxruntime has no CUDA here: install onnxruntime-gpu[cuda,cudnn] in place of onnxruntime."
    return None


def _table(figures: dict[str, Any]) -> report.Table:
    return report.Table(
        f"things a second on {figures['card']}, from text to numbers",
        ("model", "served (its batch)", "torch (its best batch)", "ratio"),
        [
            (
                model,
                f"{said['served_per_s']:.0f} ({said['served_batch']})",
                f"{said['torch_per_s']:.0f} ({said['torch_batch']})",
                f"{said['ratio']:.2f}",
            )
            for model, said in figures["models"].items()
        ],
    )
