"""A BERT as a Hugging Face folder keeps it: settings and weights as arrays, read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

Array = NDArray[np.float32]

WORDS = "embeddings.word_embeddings.weight"
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")


@dataclass(frozen=True)
class Layer:
    """The weights of one layer, [in, out] each as they are multiplied; see `Bert.layer`."""

    query: Array
    query_bias: Array
    key: Array
    key_bias: Array
    value: Array
    value_bias: Array
    out: Array
    out_bias: Array
    attention_norm: tuple[Array, Array]
    up: Array
    up_bias: Array
    down: Array
    down_bias: Array
    norm: tuple[Array, Array]


@dataclass(frozen=True)
class Bert:
    """Settings (`config.json`) and weights by name, without the prefix `bert.` of models with a head."""

    config: Mapping[str, Any]
    weights: Mapping[str, Array]

    @property
    def is_cross_encoder(self) -> bool:
        """Tell whether there is a classifier on top."""
        return "classifier.weight" in self.weights

    @property
    def hidden(self) -> int:
        """Width of a token's vector."""
        return int(self.config["hidden_size"])

    @property
    def layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def heads(self) -> int:
        """Attention heads of a layer, those without effect counted."""
        return int(self.config["num_attention_heads"])

    @property
    def head_width(self) -> int:
        return self.hidden // self.heads

    def layer(self, number: int) -> Layer:
        """Return a layer without the heads and the neurons of its feed-forward part that have no effect.

        Such are those whose way out is all zeros, as `model-factory prune` leaves heads.
        """
        at = f"encoder.layer.{number}."
        self_, out = f"{at}attention.self.", f"{at}attention.output."

        def linear(name: str) -> tuple[Array, Array]:
            return self.weights[f"{name}.weight"].T, self.weights[f"{name}.bias"]

        def norm(name: str) -> tuple[Array, Array]:
            return self.weights[f"{name}LayerNorm.weight"], self.weights[f"{name}LayerNorm.bias"]

        (query, query_bias), (key, key_bias), (value, value_bias) = (
            linear(f"{self_}{name}") for name in ("query", "key", "value")
        )
        onward, onward_bias = linear(f"{out}dense")
        used = onward.reshape(self.heads, -1).any(axis=1)
        used[0] |= not used.any()
        columns = np.repeat(used, self.head_width)
        up, up_bias = linear(f"{at}intermediate.dense")
        down, down_bias = linear(f"{at}output.dense")
        neurons = down.any(axis=1)
        neurons[0] |= not neurons.any()
        return Layer(
            query[:, columns],
            query_bias[columns],
            key[:, columns],
            key_bias[columns],
            value[:, columns],
            value_bias[columns],
            onward[columns],
            onward_bias,
            norm(out),
            up[:, neurons],
            up_bias[neurons],
            down[neurons],
            down_bias,
            norm(f"{at}output."),
        )

    def having(self, weights: Mapping[str, Array], **config: Any) -> Bert:
        """Return the model with other weights and changed settings."""
        return replace(self, config={**self.config, **config}, weights=weights)


def read(folder: Path) -> Bert:
    """Read a Hugging Face folder.

    Raises:
        typer.BadParameter: it holds no BERT that can be exported.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise typer.BadParameter(
                f"{folder} holds no {name}: name the folder of a trained model, as RUN/model of a training."
            )
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise typer.BadParameter(f"{error.name} is missing: pip install 'streamrec[train]'") from None
    try:
        config = json.loads((folder / "config.json").read_text())
        stored = load_file(folder / "model.safetensors")
    except Exception as error:  # safetensors has classes of its own for what may be wrong
        raise typer.BadParameter(f"{folder} cannot be read: {error}") from None
    if config.get("model_type") != "bert" or config.get("hidden_act") not in ACTIVATIONS:
        raise typer.BadParameter(
            f"{folder} holds a model of type {config.get('model_type')!r} with activation "
            f"{config.get('hidden_act')!r}; wanted is a bert with one of {', '.join(ACTIVATIONS)}."
        )
    weights = {
        name.removeprefix("bert."): array.astype(np.float32)
        for name, array in stored.items()
        if array.dtype.kind == "f"
    }
    if WORDS not in weights:
        raise typer.BadParameter(f"{folder}/model.safetensors has no {WORDS}.")
    return Bert(config, weights)


def save(bert: Bert, folder: Path, prefix: str = "") -> None:
    """Write `config.json` and `model.safetensors` into an existing folder.

    Args:
        prefix: of the names of the weights that are not of a head: `bert.` where there is one.
    """
    from safetensors.numpy import save_file

    names = {name: name if name.startswith(("classifier.",)) else f"{prefix}{name}" for name in bert.weights}
    arrays = {names[name]: np.ascontiguousarray(array) for name, array in bert.weights.items()}
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(dict(bert.config), indent=2) + "\n")
