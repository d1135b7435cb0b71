"""Layers whose weight is a product of two factors, run as two thinner layers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.graph.shape import free_batch

Factors = tuple[str, str]


def in_two(
    model: onnx.ModelProto, pairs: Mapping[str, Factors], values: Mapping[str, NDArray[Any]]
) -> tuple[onnx.ModelProto, frozenset[str]]:
    """Run each factored layer of a canonical model as two.

    Parameters
    ----------
    pairs : weight -> names of its factors: of a Gemm ``left`` (outputs, rank) and ``right`` (rank, inputs); of a Conv
        ``vertical`` (rank, inputs, h, 1) and ``horizontal`` (outputs, rank, 1, w)
    values : factor -> its values

    Returns
    -------
    the model, and the weights that now are two; others are read in a way that has no two-layer form
    """
    own = onnx.ModelProto()
    own.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in own.graph.node:
        weight = node.input[1] if len(node.input) > 1 else ""
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if (
            weight in pairs
            and node.op_type == "Gemm"
            and settings.get("transB") == 1
            and not settings.get("transA")
        ):
            nodes += _two_products(node, pairs[weight])
        elif weight in pairs and node.op_type == "Conv" and len(settings.get("kernel_shape", (0, 0))) == 2:
            nodes += _two_convolutions(node, pairs[weight], settings)
        else:
            nodes.append(node)
            continue
        done.add(weight)
    read = {name for node in nodes for name in node.input}
    for tensor in list(own.graph.initializer):
        if tensor.name in done and tensor.name not in read:
            own.graph.initializer.remove(tensor)
    done -= read
    for weight in done:
        for name in pairs[weight]:
            own.graph.initializer.append(
                onnx.numpy_helper.from_array(np.ascontiguousarray(values[name]), name)
            )
    del own.graph.node[:]
    own.graph.node.extend(nodes)
    free_batch(own)
    onnx.checker.check_model(own, full_check=True)
    return own, frozenset(done)


def _two_products(node: onnx.NodeProto, pair: Factors) -> list[onnx.NodeProto]:
    left, right = pair
    thin = f"{node.output[0]}.low_rank"
    first = onnx.helper.make_node("Gemm", [node.input[0], right], [thin], name=thin, transB=1)
    return [first, _reading(node, [thin, left, *node.input[2:]])]


def _two_convolutions(
    node: onnx.NodeProto, pair: Factors, settings: Mapping[str, Any]
) -> list[onnx.NodeProto]:
    """Height first: its stride, dilation and pads; then width with the others, and the bias."""
    thin = f"{node.output[0]}.vertical"
    pads, kernel = list(settings.get("pads", [0] * 4)), list(settings["kernel_shape"])
    strides, dilations = list(settings.get("strides", [1, 1])), list(settings.get("dilations", [1, 1]))
    first = onnx.helper.make_node(
        "Conv",
        [node.input[0], pair[0]],
        [thin],
        name=thin,
        kernel_shape=[kernel[0], 1],
        pads=[pads[0], 0, pads[2], 0],
        strides=[strides[0], 1],
        dilations=[dilations[0], 1],
    )
    second = onnx.helper.make_node(
        "Conv",
        [thin, pair[1], *node.input[2:]],
        list(node.output),
        name=node.name,
        kernel_shape=[1, kernel[1]],
        pads=[0, pads[1], 0, pads[3]],
        strides=[1, strides[1]],
        dilations=[1, dilations[1]],
    )
    return [first, second]


def _reading(node: onnx.NodeProto, inputs: list[str]) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.input[:]
    made.input.extend(inputs)
    return made
