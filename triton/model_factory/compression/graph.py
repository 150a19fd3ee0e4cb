"""A BERT over packed rows as an ONNX graph, written node by node for the machine that will run it.

A traced graph is slower on ONNX Runtime's CPU provider: its optimiser fuses the sums before the norms into
SkipLayerNormalization, whose kernel there is several times as slow as the two by themselves (14 % of the time
of the published encoder as traced). Here 8-bit products are the runtime's own fused ones from the start, with
three products sharing one quantised input; around them nothing is left to fuse. In 16 bits, for a GPU, the
attention is one fused operator.

Only what the answer needs is computed: where a text's vector is that of its first token, the last layer
attends from the first tokens alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model_factory.compression.bert import WORDS, Bert, Layer
from model_factory.compression.rounding import by_column, by_row

Precision = Literal["fp32", "int8", "fp16"]
Pooling = Literal["mean", "cls"]

OPSET, IR_VERSION = 20, 10
ORT = "com.microsoft"
FAR = {"fp32": -1e9, "int8": -1e9, "fp16": -1e4}
"""Added to the score of a token of another text."""


def encoder(bert: Bert, precision: Precision, tokens: int, pooling: Pooling = "mean") -> Any:
    """Return the graph from (token_ids, positions, text_numbers, numbers) to embeddings of length 1.

    Args:
        tokens: most of a text, so many positions are kept.
        pooling: a text's vector is the mean of its tokens', or that of its first one.
    """
    writer = _Writer(bert, precision)
    hidden = writer.embed(tokens)
    if pooling == "cls":
        texts = writer.first_tokens(hidden)
    else:
        hidden = writer.layers(hidden, range(bert.layers))
        flat = writer("Reshape", hidden, writer.integers(-1, bert.hidden))
        texts = writer("MatMul", writer.of_each_text(), flat)
    texts = writer.in_32_bits(texts)
    length = writer("Max", writer("ReduceL2", texts, writer.integers(1), keepdims=1), writer.exact(1e-12))
    writer("Div", texts, length, name="embeddings")
    return writer.model("encoder", ("token_ids", "positions", "text_numbers"), "embeddings", bert.hidden)


def cross_encoder(bert: Bert, precision: Precision, tokens: int) -> Any:
    """Return the graph from (token_ids, positions, segments, text_numbers, numbers) to scores [pairs], 0..1.

    Args:
        tokens: most of a pair.
    """
    writer = _Writer(bert, precision)
    first = writer.first_tokens(writer.embed(tokens, segments=True))
    pooled = writer.linear(first, bert.weights["pooler.dense.weight"].T, bert.weights["pooler.dense.bias"])
    pooled = writer.in_32_bits(writer("Tanh", pooled))
    logit = writer("MatMul", pooled, writer.exact(bert.weights["classifier.weight"].T))
    logit = writer("Add", logit, writer.exact(bert.weights["classifier.bias"]))
    writer("Sigmoid", writer("Squeeze", logit, writer.integers(1)), name="scores")
    return writer.model(
        "cross_encoder", ("token_ids", "positions", "segments", "text_numbers"), "scores", None
    )


def save(model: Any, path: Path) -> None:
    """Write the graph with its weights into one file."""
    import onnx

    onnx.save(model, str(path))


class _Writer:
    """A graph as it grows. Calling it adds a node and returns the name of its result."""

    def __init__(self, bert: Bert, precision: Precision) -> None:
        self._bert, self._precision = bert, precision
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._known: dict[tuple[int, ...], str] = {}
        self._float = np.float16 if precision == "fp16" else np.float32
        self._shape = self("Shape", "token_ids")
        same = self(
            "Equal",
            self("Unsqueeze", "text_numbers", self.integers(1)),
            self("Unsqueeze", "text_numbers", self.integers(2)),
        )
        near_or_far = self("Where", same, self.number(0.0), self.number(FAR[precision]))
        self._bias = self("Unsqueeze", near_or_far, self.integers(1))
        flat = self("Reshape", "text_numbers", self.integers(1, -1))
        self._theirs = self("Equal", flat, self("Unsqueeze", "numbers", self.integers(1)))

    def __call__(
        self, op: str, *inputs: str, outputs: int = 1, name: str | None = None, **attributes: Any
    ) -> Any:
        from onnx import helper

        made = [name or f"{op}_{len(self._nodes)}_{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(op, inputs, made, f"{op}_{len(self._nodes)}", **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, array: NDArray[Any]) -> str:
        """Keep an array as it is."""
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def integers(self, *values: int) -> str:
        """Keep shapes or axes."""
        if values not in self._known:
            self._known[values] = self.constant(np.array(values, np.int64))
        return self._known[values]

    def exact(self, value: Any) -> str:
        """Keep numbers in 32 bits."""
        return self.constant(np.asarray(value, np.float32))

    def number(self, value: Any) -> str:
        """Keep numbers in the precision of what is between the products."""
        return self.constant(np.asarray(value, self._float))

    def embed(self, tokens: int, segments: bool = False) -> str:
        """Look up tokens, places and, else always 0, segments; shape [rows, tokens, hidden]."""
        weights = self._bert.weights
        places = weights["embeddings.position_embeddings.weight"][:tokens]
        kinds = weights["embeddings.token_type_embeddings.weight"]
        if segments:
            places = self("Gather", self.number(places), "positions")
            places = self("Add", places, self("Gather", self.number(kinds), "segments"))
        else:
            places = self("Gather", self.number(places + kinds[0]), "positions")
        if self._precision == "int8":
            rounded, scales = by_row(weights[WORDS])
            words = self.in_32_bits(self("Gather", self.constant(rounded), "token_ids"))
            words = self("Mul", words, self("Gather", self.constant(scales), "token_ids"))
        else:
            words = self("Gather", self.number(weights[WORDS]), "token_ids")
        norm = tuple(weights[f"embeddings.LayerNorm.{part}"] for part in ("weight", "bias"))
        return self._norm(self("Add", words, places), norm)

    def layers(self, hidden: str, numbers: range) -> str:
        """Apply layers to all tokens; shape [rows, tokens, hidden]."""
        for number in numbers:
            layer = self._bert.layer(number)
            query, key, value = self._projected(hidden, layer)
            heads = layer.value.shape[1] // self._bert.head_width
            hidden = self._onward(self._attended(query, key, value, heads), hidden, layer)
        return hidden

    def first_tokens(self, hidden: str) -> str:
        """Apply all layers, the last one to the first token of each text alone; shape [texts, hidden]."""
        bert = self._bert
        hidden = self.layers(hidden, range(bert.layers - 1))
        layer = bert.layer(bert.layers - 1)
        flat = self("Reshape", hidden, self.integers(-1, bert.hidden))
        is_first = self("Equal", self("Reshape", "positions", self.integers(1, -1)), self.integers(0))
        first = self("MatMul", self._ones(self("And", self._theirs, is_first)), flat)
        key, value = self._linears(flat, (layer.key, layer.key_bias), (layer.value, layer.value_bias))
        query = self.linear(first, *self._scaled(layer))
        split = self.integers(0, -1, bert.head_width)  # tokens or texts, heads, width of a head
        query = self("Transpose", self("Reshape", query, split), perm=[1, 0, 2])
        key = self("Transpose", self("Reshape", key, split), perm=[1, 2, 0])
        value = self("Transpose", self("Reshape", value, split), perm=[1, 0, 2])
        far = self("Where", self._theirs, self.number(0.0), self.number(FAR[self._precision]))
        weights = self("Softmax", self("Add", self("MatMul", query, key), far), axis=-1)
        mixed = self("Transpose", self("MatMul", weights, value), perm=[1, 0, 2])
        mixed = self("Reshape", mixed, self.integers(-1, layer.value.shape[1]))
        return self._onward(mixed, first, layer)

    def of_each_text(self) -> str:
        """Return [texts, rows * tokens]: 1 where a token is the text's."""
        return self._ones(self._theirs)

    def in_32_bits(self, x: str) -> str:
        """Turn numbers of any type into 32-bit ones."""
        from onnx import TensorProto

        return str(self("Cast", x, to=TensorProto.FLOAT))

    def linear(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """Multiply and add; in 8 bits the input is quantised as it comes."""
        if self._precision == "int8":
            rounded, scales = by_column(weight)
            parts = (self.constant(rounded), self.constant(scales), "", self.exact(bias))
            return str(self("DynamicQuantizeMatMul", x, *parts, domain=ORT))
        return str(self("Add", self("MatMul", x, self.number(weight)), self.number(bias)))

    def model(self, name: str, inputs: tuple[str, ...], output: str, width: int | None) -> Any:
        """Return the finished graph."""
        from onnx import TensorProto, helper

        given = [
            *(helper.make_tensor_value_info(each, TensorProto.INT64, ["rows", "tokens"]) for each in inputs),
            helper.make_tensor_value_info("numbers", TensorProto.INT64, ["texts"]),
        ]
        shape = ["texts", width] if width else ["texts"]
        made = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self._nodes, name, given, made, self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ORT, 1)]
        return helper.make_model(
            graph, producer_name="model-factory", opset_imports=opsets, ir_version=IR_VERSION
        )

    def _projected(self, hidden: str, layer: Layer) -> list[str]:
        """Return queries, keys and values; queries are scaled unless the fused operator does it."""
        query = (layer.query, layer.query_bias) if self._precision == "fp16" else self._scaled(layer)
        return self._linears(hidden, query, (layer.key, layer.key_bias), (layer.value, layer.value_bias))

    def _scaled(self, layer: Layer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scale = np.float32(self._bert.head_width**-0.5)
        return layer.query * scale, layer.query_bias * scale

    def _linears(self, x: str, *linears: tuple[NDArray[np.float32], NDArray[np.float32]]) -> list[str]:
        """Multiply one input, quantised once, with several weights."""
        if self._precision != "int8":
            return [self.linear(x, *linear) for linear in linears]
        quantised, scale, zero = self("DynamicQuantizeLinear", x, outputs=3)
        products = []
        for weight, bias in linears:
            rounded, scales = by_column(weight)
            parts = (self.constant(rounded), scale, self.constant(scales), zero, "", self.exact(bias))
            products.append(self("MatMulIntegerToFloat", quantised, *parts, domain=ORT))
        return products

    def _attended(self, query: str, key: str, value: str, heads: int) -> str:
        if self._precision == "fp16":
            inputs = (query, key, value, "", "", self._bias)
            scale = self._bert.head_width**-0.5
            return str(self("MultiHeadAttention", *inputs, domain=ORT, num_heads=heads, scale=scale))
        split = self("Concat", self._shape, self.integers(-1, self._bert.head_width), axis=0)
        query = self("Transpose", self("Reshape", query, split), perm=[0, 2, 1, 3])
        key = self("Transpose", self("Reshape", key, split), perm=[0, 2, 3, 1])
        value = self("Transpose", self("Reshape", value, split), perm=[0, 2, 1, 3])
        weights = self("Softmax", self("Add", self("MatMul", query, key), self._bias), axis=-1)
        mixed = self("Transpose", self("MatMul", weights, value), perm=[0, 2, 1, 3])
        return str(self("Reshape", mixed, self("Concat", self._shape, self.integers(-1), axis=0)))

    def _onward(self, mixed: str, hidden: str, layer: Layer) -> str:
        """Apply what follows the attention to its result and the layer's input."""
        summed = self("Add", self.linear(mixed, layer.out, layer.out_bias), hidden)
        hidden = self._norm(summed, layer.attention_norm)
        up = self._activated(self.linear(hidden, layer.up, layer.up_bias))
        return self._norm(self("Add", self.linear(up, layer.down, layer.down_bias), hidden), layer.norm)

    def _ones(self, where: str) -> str:
        """Return 1 where a condition holds, else 0."""
        from onnx import TensorProto

        to = TensorProto.FLOAT16 if self._precision == "fp16" else TensorProto.FLOAT
        return str(self("Cast", where, to=to))

    def _activated(self, x: str) -> str:
        activation = self._bert.config["hidden_act"]
        if activation == "relu":
            return str(self("Relu", x))
        return str(self("Gelu" if activation == "gelu" else "FastGelu", x, domain=ORT))

    def _norm(self, x: str, norm: tuple[NDArray[np.float32], ...]) -> str:
        epsilon = float(self._bert.config["layer_norm_eps"])
        return str(self("LayerNormalization", x, *map(self.number, norm), axis=-1, epsilon=epsilon))
