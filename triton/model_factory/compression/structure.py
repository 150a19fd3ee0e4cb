"""Fewer layers, heads and neurons: what matters least by what it adds, measured on texts.

What a head or a neuron adds to the layer's sum is the length of its part of that sum, averaged over tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from model_factory.compression.bert import Bert

TEXTS_AT_ONCE = 32
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.")

Floats = NDArray[np.float64]


class Importance(NamedTuple):
    """Mean length of what each adds; [layers, heads] and [layers, neurons]."""

    heads: Floats
    neurons: Floats


def keep_layers(bert: Bert, layers: Sequence[int]) -> Bert:
    """Return the model with some of its layers, in the order given.

    Raises:
        typer.BadParameter: there is no such layer.
    """
    if not layers or not all(0 <= layer < bert.layers for layer in layers):
        raise typer.BadParameter(f"the layers to keep are some of 0 to {bert.layers - 1}, as in 0,2,5.")
    weights = {}
    for name, array in bert.weights.items():
        if not _LAYER.match(name):
            weights[name] = array
    for new, old in enumerate(layers):
        start = f"encoder.layer.{old}."
        weights.update(
            (f"encoder.layer.{new}.{name.removeprefix(start)}", array)
            for name, array in bert.weights.items()
            if name.startswith(start)
        )
    return bert.having(weights, num_hidden_layers=len(layers))


def measure(folder: Path, bert: Bert, texts: Sequence[str], tokens: int) -> Importance:
    """Run the texts through the model in torch.

    Args:
        folder: that `bert` was read from, as it is there.

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
    tokenizer.enable_truncation(tokens)
    tokenizer.enable_padding(pad_id=bert.config.get("pad_token_id") or 0)
    model = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).eval()
    neurons = int(bert.config["intermediate_size"])
    added = Importance(np.zeros((bert.layers, bert.heads)), np.zeros((bert.layers, neurons)))
    counted = 0
    real = torch.zeros(0)
    handles = []
    for number, layer in enumerate(model.encoder.layer):
        onward, down = layer.attention.output.dense, layer.output.dense
        by_head = onward.weight.T.reshape(bert.heads, bert.head_width, -1)
        lengths = down.weight.norm(dim=0)

        def heads(
            _: object, given: tuple[torch.Tensor, ...], number: int = number, by_head: torch.Tensor = by_head
        ) -> None:
            parts = given[0][real].reshape(-1, bert.heads, bert.head_width).transpose(0, 1)
            added.heads[number] += (parts @ by_head).norm(dim=2).sum(dim=1).double().numpy()

        def units(
            _: object, given: tuple[torch.Tensor, ...], number: int = number, lengths: torch.Tensor = lengths
        ) -> None:
            added.neurons[number] += (given[0][real].abs().sum(dim=0) * lengths).double().numpy()

        handles += [onward.register_forward_pre_hook(heads), down.register_forward_pre_hook(units)]
    with torch.inference_mode():
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            encodings = tokenizer.encode_batch(list(texts[start : start + TEXTS_AT_ONCE]))
            ids = torch.tensor([encoding.ids for encoding in encodings])
            mask = torch.tensor([encoding.attention_mask for encoding in encodings])
            real = mask.bool()
            counted += int(real.sum())
            model(input_ids=ids, attention_mask=mask)
    for handle in handles:
        handle.remove()
    return Importance(added.heads / counted, added.neurons / counted)


def keep_heads(bert: Bert, importance: Floats, keep: int) -> Bert:
    """Return the model with all but the most important heads of each layer silenced.

    Their way out is set to zero, which an export leaves out; the folder stays one that transformers reads.
    """
    _check(keep, bert.heads, "heads")
    weights = dict(bert.weights)
    for layer in range(bert.layers):
        name = f"encoder.layer.{layer}.attention.output.dense.weight"
        silent = np.argsort(-importance[layer], kind="stable")[keep:]
        onward = weights[name].copy()
        for head in silent:
            onward[:, head * bert.head_width : (head + 1) * bert.head_width] = 0
        weights[name] = onward
    return bert.having(weights)


def keep_neurons(bert: Bert, importance: Floats, keep: int) -> Bert:
    """Return the model with the most important neurons of each feed-forward part alone."""
    _check(keep, int(bert.config["intermediate_size"]), "neurons")
    weights = dict(bert.weights)
    for layer in range(bert.layers):
        best = np.sort(np.argsort(-importance[layer], kind="stable")[:keep])
        up, down = f"encoder.layer.{layer}.intermediate.dense", f"encoder.layer.{layer}.output.dense"
        weights[f"{up}.weight"] = weights[f"{up}.weight"][best]
        weights[f"{up}.bias"] = weights[f"{up}.bias"][best]
        weights[f"{down}.weight"] = weights[f"{down}.weight"][:, best]
    return bert.having(weights, intermediate_size=keep)


def _check(keep: int, there: int, what: str) -> None:
    if not 1 <= keep <= there:
        raise typer.BadParameter(f"{keep} {what} to keep of each layer: it has 1 to {there}.")
