"""Parameters apart from constants, and constants folded without touching a parameter."""

from collections.abc import Collection

import onnx_ir as ir
from onnxscript import optimizer

from clearweight.exporter.graph.role import FLOATS, is_structural, is_weight


def separate(model: ir.Model, names: Collection[str] | None) -> dict[str, ir.Value]:
    """Make every parameter an initializer and name the set.

    Constant nodes that an operator reads as weight or bias become initializers. A float initializer is a
    parameter if ``names`` holds it or an operator reads it as weight or bias; with ``names`` None (a graph
    of unknown origin) every float tensor of more than one element that is not a mere setting is one too.
    """
    graph = model.graph
    for node in [node for node in graph if node.op_type == "Constant"]:
        value = node.outputs[0]
        tensor = ir.convenience.get_const_tensor(value)
        if is_weight(value) and tensor is not None and not value.is_graph_output():
            name = str(value.name)
            ir.convenience.replace_all_uses_with(value, _initializer(graph, f"{name}.value", tensor))
            graph.remove(node, safe=True)
    parameters = {}
    for name, value in graph.initializers.items():
        if value.dtype is None and value.const_value is not None:
            value.dtype = value.const_value.dtype
        if value.dtype not in FLOATS or value.const_value is None:
            continue
        named = names is not None and name in names
        likely = names is None and value.const_value.size > 1 and not is_structural(value)
        if named or likely or is_weight(value):
            parameters[name] = value
    return parameters


def fold_constants(model: ir.Model, parameters: dict[str, ir.Value]) -> None:
    """Evaluate what depends on constants alone, with the parameters out of the optimizer's sight.

    Left in sight, it would transpose or merge them, and the numbers in the graph would no longer be those
    of the module under that name.
    """
    graph = model.graph
    tensors = {name: value.const_value for name, value in parameters.items()}
    for name, value in parameters.items():
        del graph.initializers[name]
        value.const_value = None
        graph.inputs.append(value)
    optimizer.optimize_ir(model)
    for name, value in parameters.items():
        graph.inputs.remove(value)
        value.const_value = tensors[name]
        value.name = name
        graph.register_initializer(value)


def constants_to_nodes(model: ir.Model, parameters: Collection[str]) -> None:
    """Turn every initializer that is not a parameter into a Constant node at the head of the graph."""
    graph = model.graph
    head = next(iter(graph))
    for name in [name for name in graph.initializers if name not in parameters]:
        value = graph.initializers[name]
        tensor = value.const_value
        del graph.initializers[name]
        if tensor is None or not value.uses():
            continue
        plain = ir.tensor(tensor.numpy(), dtype=tensor.dtype)
        node = ir.Node("", "Constant", [], attributes=[ir.AttrTensor("value", plain)])
        made = node.outputs[0]
        made.shape, made.dtype, made.name = ir.Shape(tensor.numpy().shape), tensor.dtype, name
        graph.insert_before(head, node)
        ir.convenience.replace_all_uses_with(value, made)


def _initializer(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    value = ir.Value(name=name, const_value=tensor)
    value.shape, value.dtype = ir.Shape(tensor.numpy().shape), tensor.dtype
    graph.register_initializer(value)
    return value
