"""A graph that serves in 8 bits on a CPU, in 16 bits for a GPU: the same weights, other operators.

So an image for a GPU is made of what is in the repository. `model-factory export --precision fp16` makes a
better one where the trained folder is at hand: from 32 bits, with the attention as one operator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import typer

from model_factory.compression.convert import check_onnx
from model_factory.compression.graph import FAR


def convert(path: Path, output: Path) -> None:
    """Write a graph of `model-factory export` in 8 bits as one in 16 bits.

    Raises:
        typer.BadParameter: it is none, or onnx is missing.
    """
    check_onnx()
    import onnx

    model = onnx.load(str(path))
    if model.producer_name != "model-factory":
        raise typer.BadParameter(
            f"{path} was not written by this version of `model-factory export`: export it anew."
        )
    onnx.save(in_sixteen_bits(model), str(output))


def in_sixteen_bits(model: Any) -> Any:
    """Return the graph with 16-bit weights and products; what follows the pooling stays in 32 bits."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    kept: dict[str, Any] = {}
    nodes: list[Any] = []
    quantised: dict[str, str] = {}  # from a rounded input to the input
    exact_from_here = False
    made_of: dict[str, str] = {}  # from a result to its operator

    def small(name: str) -> str:
        """Keep a constant, in 16 bits where it has 32."""
        if name in constants:
            array = constants[name]
            if array.dtype == np.float32 and not exact_from_here:
                array = np.maximum(array, FAR["fp16"]).astype(np.float16)
            kept[name] = array
        return name

    def product(x: str, weight: str, scale: str, bias: str, result: str) -> None:
        kept[weight] = (constants[weight].astype(np.float32) * constants[scale]).astype(np.float16)
        nodes.append(helper.make_node("MatMul", [x, weight], [f"{result}_product"], f"{result}_product"))
        nodes.append(helper.make_node("Add", [f"{result}_product", small(bias)], [result], result))

    for node in model.graph.node:
        for name in node.output:
            made_of[name] = node.op_type
        if node.op_type == "DynamicQuantizeLinear":
            quantised[node.output[0]] = node.input[0]
        elif node.op_type == "MatMulIntegerToFloat":
            x, weight, _, scale, _, _, bias = node.input
            product(quantised[x], weight, scale, bias, node.output[0])
        elif node.op_type == "DynamicQuantizeMatMul":
            x, weight, scale, _, bias = node.input
            product(x, weight, scale, bias, node.output[0])
        else:
            changed = type(node)()
            changed.CopyFrom(node)
            if node.op_type == "Cast" and made_of.get(node.input[0]) in ("Equal", "And", "Gather"):
                changed.attribute[0].i = TensorProto.FLOAT16
            elif node.op_type == "Cast":
                exact_from_here = True
            for name in node.input:
                small(name)
            nodes.append(changed)
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        model.graph.input,
        model.graph.output,
        [numpy_helper.from_array(array, name) for name, array in kept.items()],
    )
    return helper.make_model(
        graph,
        producer_name=model.producer_name,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
