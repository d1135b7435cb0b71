"""Operators that do nothing at inference, and how each is taken out."""

from collections.abc import Callable, Collection

import numpy as np
import onnx_ir as ir

_FALSE_IF_ABSENT = 3  # Dropout's third input, training_mode


def remove_pass_through(model: ir.Model) -> None:
    """Take out every operator that hands its input on unchanged.

    Identity; Dropout in inference mode; Cast to the type the value has; a Pad by zeros; Concat, Sum, Max,
    Min and Mean of one input. Where the operator is the graph's output, its producer takes over the name.
    """
    for node in list(model.graph):
        rule = PASS_THROUGH.get(node.op_type)
        if node.domain in {"", "ai.onnx"} and rule is not None and rule(node):
            _bypass(model.graph, node)


def remove_zero_bias(model: ir.Model, parameters: Collection[str]) -> None:
    """Drop the optional bias of a Conv, ConvTranspose or Gemm when it is a constant zero.

    torch.onnx writes zeros where a layer has no bias, but a parameter of the model is never dropped.
    """
    for node in model.graph:
        if node.op_type in {"Conv", "ConvTranspose", "Gemm"} and len(node.inputs) == 3:
            bias = node.inputs[2]
            if bias is None or bias.const_value is None or bias.name in parameters:
                continue
            if not np.any(bias.const_value.numpy()):
                node.resize_inputs(2)


def _is_inference_dropout(node: ir.Node) -> bool:
    """No third input, or a constant False; and nobody reads the mask."""
    if len(node.outputs) > 1 and node.outputs[1].uses():
        return False
    mode = node.inputs[2] if len(node.inputs) >= _FALSE_IF_ABSENT else None
    if mode is None:
        return True
    constant = ir.convenience.get_const_tensor(mode)
    return constant is not None and not bool(constant.numpy())


def _is_cast_to_itself(node: ir.Node) -> bool:
    source = node.inputs[0]
    return source is not None and source.dtype is not None and node.attributes["to"].as_int() == source.dtype


def _is_zero_pad(node: ir.Node) -> bool:
    pads = node.inputs[1] if len(node.inputs) > 1 else None
    constant = ir.convenience.get_const_tensor(pads) if pads is not None else None
    return constant is not None and not np.any(constant.numpy())


def _has_one_input(node: ir.Node) -> bool:
    return len(node.inputs) == 1


PASS_THROUGH: dict[str, Callable[[ir.Node], bool]] = {
    "Identity": lambda _: True,
    "Dropout": _is_inference_dropout,
    "Cast": _is_cast_to_itself,
    "Pad": _is_zero_pad,
    "Concat": _has_one_input,
    "Sum": _has_one_input,
    "Max": _has_one_input,
    "Min": _has_one_input,
    "Mean": _has_one_input,
}


def _bypass(graph: ir.Graph, node: ir.Node) -> None:
    """Let the readers of a node read its input instead."""
    source, output = node.inputs[0], node.outputs[0]
    if source is None:
        return
    if output.is_graph_output():
        if source.is_graph_input() or source.is_initializer() or source.is_graph_output():
            return  # the graph would hand out its own input or one value twice
        position = list(graph.outputs).index(output)
        name = output.name
        source.shape, source.type = output.shape or source.shape, output.type or source.type
        output.name = None
        source.name = name
        graph.outputs[position] = source
    ir.convenience.replace_all_uses_with(output, source)
    graph.remove(node, safe=True)
