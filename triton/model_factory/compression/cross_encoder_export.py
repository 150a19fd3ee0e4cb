"""From a trained cross-encoder to a version that Triton serves; the command `export cross-encoder`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from model_factory import served
from model_factory.compression import bert, convert
from model_factory.compression.export import describe, refuse_if_served, written_whole
from model_factory.compression.graph import Precision

FURTHEST = {"fp32": 0.001, "fp16": 0.02, "int8": 0.15}
"""Scores that differ by more say something else than the weights did, and nothing is written."""
COMPARED = 64

Scores = NDArray[np.float32]

console = Console(stderr=True)


def export_cross_encoder(
    model: Annotated[Path, typer.Argument(help="Hugging Face folder, as RUN/model of a training.")],
    output: Annotated[
        Path, typer.Option(help="Folder of the version, model_repository/cross_encoder/VERSION.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Prepared data, whose graded pairs are compared; else a few sentences."),
    ] = None,
    precision: Annotated[Precision, typer.Option(help="int8 for a CPU, fp16 for a GPU.")] = "int8",
) -> None:
    """Make model.onnx, tokenizer.json and MANIFEST.json of a cross-encoder, and compare it with torch.

    Example: model-factory export cross-encoder runs/cross-encoder/model --data data/prepared
    --output model_repository/cross_encoder/2

    Nothing is written where scores stray from those of torch.
    """
    if not bert.read(model).is_cross_encoder:
        raise typer.BadParameter(
            f"{model} holds an encoder: model-factory export encoder makes a version of it."
        )
    refuse_if_served(output)
    pairs = SENTENCES if data is None else _graded(data)
    with tempfile.TemporaryDirectory() as made_in:
        made = Path(made_in)
        with console.status("writing the graph"):
            convert.convert(model, made, precision)
        with console.status("comparing with torch"):
            figures = compare(made, torch_scores(model, pairs), pairs)
        console.print("difference from the scores in torch:", figures)
        if figures["with_torch"]["most"] > FURTHEST[precision]:
            console.print(
                f"The scores stray too far from torch's, so nothing is written: in {precision} they may "
                f"differ by {FURTHEST[precision]}."
            )
            raise typer.Exit(1)
        task = "two texts to how well the second answers the first, 0 to 1, calibrated to (2^grade - 1) / 7"
        with written_whole(output) as place:
            for name in convert.FILES:
                shutil.copy(made / name, place / name)
            # The one line of every version, of any model: the code that versions share is called alike.
            shutil.copy(served.PUBLISHED_ENCODER / "model.py", place / "model.py")
            said = {"difference": figures}
            describe(place, model, precision, "cross_encoder", task, said, version=output.name)
    console.print(f"wrote {output}")


SENTENCES = [
    ("wireless mouse", "Logitech M185 wireless mouse, 2.4 GHz, black"),
    ("wireless mouse", "Leather sleeve for notebooks of 13 inches"),
    ("hp notebook", "HP Pavilion 15 notebook, Intel Core i5, 8 GB, 256 GB SSD"),
    ("toner", "Black toner cartridge for laser printers, 2,300 pages"),
]


def torch_scores(folder: Path, pairs: Sequence[tuple[str, str]]) -> Scores:
    """Score each pair alone with transformers' own BERT, in 32 bits, cut as the served code cuts it."""
    try:
        import torch
        from transformers import BertForSequenceClassification
    except ImportError as error:
        raise typer.BadParameter(f"{error.name} is missing: pip install 'streamrec[train]'") from None
    from tokenizers import Tokenizer

    batching = served.batching("cross_encoder")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    special = [tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]")]
    model = BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    scores = []
    with torch.inference_mode():
        for pair in pairs:
            texts = [text[: batching.MAX_CHARS] for text in pair]
            left, right = tokenizer.encode_batch(texts, add_special_tokens=False)
            joined = batching.join(left.ids, right.ids, *special)
            ids = torch.tensor([joined.token_ids])
            segments = torch.zeros_like(ids)
            segments[0, ids.shape[1] - joined.right :] = 1
            logit = model(input_ids=ids, token_type_ids=segments, attention_mask=torch.ones_like(ids)).logits
            scores.append(float(torch.sigmoid(logit)))
    return np.array(scores, np.float32)


def compare(
    exported: Path, expected: Scores, pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[str, float]]:
    """Return differences, mean and most: from what is expected, and of pairs alone from pairs in a batch.

    Dynamic int8 scales activations by the whole batch, so a score depends a little on its neighbours.
    """
    scorer = served.load_cross_encoder(exported)
    batched = scorer.score(pairs)
    alone = np.concatenate([scorer.score([pair]) for pair in pairs])
    return {
        "with_torch": _differences(batched, expected),
        "alone_with_in_a_batch": _differences(alone, batched),
    }


def _differences(left: Scores, right: Scores) -> dict[str, Any]:
    found = np.abs(left - right)
    return {"mean": round(float(found.mean()), 5), "most": round(float(found.max()), 5)}


def _graded(data: Path) -> list[tuple[str, str]]:
    from model_factory.training.relevance import read_graded

    rows = read_graded(data)
    return [(row.query, row.text) for row in rows[:: max(1, len(rows) // COMPARED)]]
