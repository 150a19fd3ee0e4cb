"""Whether an exported encoder says what its weights say in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from model_factory import served
from model_factory.compression.graph import Pooling

Vectors = NDArray[np.float32]

WORST_COSINE = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.97}
"""Under this a vector says something else than the weights did, and nothing is written."""

MAX_CHARS = 2_000
"""What the served encoder looks at of a text."""


def torch_vectors(folder: Path, texts: Sequence[str], tokens: int, pooling: Pooling) -> Vectors:
    """Encode each text alone with transformers' own BERT, in 32 bits.

    Raises:
        typer.BadParameter: torch or transformers is missing.
    """
    try:
        import torch
        from transformers import BertModel
        from transformers.utils import logging
    except ImportError as error:
        raise typer.BadParameter(f"{error.name} is missing: pip install 'streamrec[train]'") from None
    from tokenizers import Tokenizer

    logging.disable_progress_bar()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(tokens)
    bert = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).eval()
    vectors = []
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text[:MAX_CHARS]).ids])
            hidden = bert(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            pooled = hidden[0] if pooling == "cls" else hidden.mean(dim=0)
            vectors.append(torch.nn.functional.normalize(pooled, dim=0).numpy())
    return np.stack(vectors)


def compare(exported: Path, expected: Vectors, texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return cosines, mean and least: with what is expected, and of texts alone with texts in a batch.

    Dynamic int8 scales activations by the whole batch, so a vector depends a little on its neighbours.
    """
    encoder = served.load_encoder(exported)
    texts = [text[:MAX_CHARS] for text in texts]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    batched = np.concatenate(
        [encoder.encode(texts[start : start + served.BATCH]) for start in range(0, len(texts), served.BATCH)]
    )
    return {"with_torch": _cosines(batched, expected), "alone_with_in_a_batch": _cosines(alone, batched)}


def too_far(figures: Mapping[str, Mapping[str, float]], precision: str) -> bool:
    """Tell whether the vectors stray from what is expected."""
    return not figures["with_torch"]["min"] >= WORST_COSINE[precision]


def _cosines(left: Any, right: Any) -> dict[str, float]:
    cosines = (left * right).sum(axis=1)
    return {"mean": round(float(cosines.mean()), 5), "min": round(float(cosines.min()), 5)}
