"""A Softmax or Sigmoid at the end of a classifier: taken off for explaining, put back into what is written.

What is explained is the logit before it. The derivative of a probability vanishes where the network is sure
(``dp/dz = p (1 - p)``), so its maps say least about the clearest inputs; the order of the classes is the same.
"""

from dataclasses import dataclass

import onnx

# Those that keep the order of the classes within a row; the derivative of each fades with confidence.
TAILS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})


@dataclass(frozen=True, eq=False)
class Tail:
    """The last operator of a classifier, and the output that it makes."""

    node: onnx.NodeProto
    output: onnx.ValueInfoProto

    @property
    def logits(self) -> str:
        """Name of the value before it."""
        return self.node.input[0]


def cut_tail(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Tail | None]:
    """Return the model with the logits as its output, and what was cut off; the model itself where nothing was.

    Parameters
    ----------
    model : one output [N, C]; not modified
    """
    output = model.graph.output[0]
    shape = output.type.tensor_type.shape.dim
    node = next((node for node in model.graph.node if output.name in node.output), None)
    if node is None or node.op_type not in TAILS or node.domain not in {"", "ai.onnx"} or len(shape) != 2:
        return model, None
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), -1)
    read_elsewhere = any(output.name in other.input for other in model.graph.node)
    made_by_node = any(node.input[0] in other.output for other in model.graph.node)
    if axis not in {1, -1} or read_elsewhere or not made_by_node:
        return model, None
    tail = Tail(onnx.NodeProto(), onnx.ValueInfoProto())
    tail.node.CopyFrom(node)
    tail.output.CopyFrom(output)
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    graph = bare.graph
    graph.node.remove(node)
    graph.output[0].name = tail.logits
    for value in [value for value in graph.value_info if value.name == tail.logits]:
        graph.value_info.remove(value)
    return bare, tail


def restore_tail(model: onnx.ModelProto, tail: Tail) -> onnx.ModelProto:
    """Return a graph with logits among its outputs so that it gives the model's own output in their place."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    whole.graph.node.append(tail.node)
    for output in whole.graph.output:
        if output.name == tail.logits:
            output.CopyFrom(tail.output)
    onnx.checker.check_model(whole)
    return whole
