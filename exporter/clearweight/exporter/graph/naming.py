"""Names of values: those of the torch modules that make them.

torch.onnx numbers its values by a counter over the whole trace, so one more operator renames everything
after it. Here a value is called after the module that returns it, which is also the name under which a
torch hook finds it: ``pool2`` or ``layers.1`` means the same map on both sides.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable

import onnx
import onnx_ir as ir

from clearweight.exporter.graph.errors import UnsupportedModelError

_SCOPES = "pkg.torch.onnx.name_scopes"
_HELPER = re.compile(r"val_\d+")


def name_after_modules(model: ir.Model) -> None:
    """Rename the values of a fresh torch.onnx graph after the modules that return them.

    The last operator of a module's call gets the module's path (``layers.0.conv1``), every other one the
    path of the module that runs it and its operator's name (``layers.0.relu``). A second call of the same
    module is ``pool.call2``. Names of inputs, outputs and parameters are kept.
    """
    graph = model.graph
    nodes = list(graph)
    stacks = [_module_stack(node) for node in nodes]
    kept = {value.name for value in (*graph.inputs, *graph.outputs)} | set(graph.initializers)
    calls: Counter[str] = Counter()
    wanted: list[tuple[ir.Value, str]] = []
    for position, (node, stack) in enumerate(zip(nodes, stacks, strict=True)):
        owner = stack[-1] if stack else ""
        following = stacks[position + 1] if position + 1 < len(nodes) else []
        name = f"{owner}.{node.op_type.lower()}" if owner else node.op_type.lower()
        if owner and owner not in following:
            calls[owner] += 1
            name = owner if calls[owner] == 1 else f"{owner}.call{calls[owner]}"
        for order, output in enumerate(node.outputs):
            if output.name not in kept:
                wanted.append((output, name if order == 0 else f"{name}.output{order}"))
    taken = {str(name) for name in kept}
    # Helper values (shape arithmetic) mostly fold away: they choose last, so as not to shift the others.
    for output, name in sorted(wanted, key=lambda pair: bool(_HELPER.fullmatch(str(pair[0].name)))):
        output.name = _free(name, taken)


def _module_stack(node: ir.Node) -> list[str]:
    """Read the paths of the modules round an operator, outermost first, without the root."""
    scopes = node.metadata_props.get(_SCOPES)
    return [str(scope) for scope in ast.literal_eval(scopes)[1:-1]] if scopes else []


def _free(name: str, taken: set[str]) -> str:
    """Return the name itself, or with the lowest free number behind it."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def name_nodes(model: ir.Model) -> None:
    """Give every Constant a number and every node the name of its first output."""
    graph = model.graph
    reserved = {str(value.name) for value in (*graph.inputs, *graph.outputs)} | set(graph.initializers)
    ordinary = [node for node in graph if node.op_type != "Constant"]
    taken = reserved | {str(output.name) for node in ordinary for output in node.outputs}
    constants = [node for node in graph if node.op_type == "Constant"]
    for node in constants:  # out of the way first, so that renaming twice gives the same numbers
        node.outputs[0].name = None
    for number, node in enumerate(constants):
        name = f"constant_{number}"
        node.outputs[0].name = name if name not in taken else _free(name, taken)
    for node in graph:
        node.name = node.outputs[0].name


def layer_output(model: onnx.ModelProto, layer: str) -> str:
    """Find the value that a named layer returns.

    It is the last value called ``layer`` or ``layer.<something>``: the output of a container, or of the
    last call of a module that is called several times, as a torch hook would see it.

    Raises
    ------
    UnsupportedModelError
        No value of the graph carries that name; the message lists the layers.
    """
    inside = re.compile(rf"{re.escape(layer)}(\..*)?")
    names = [node.output[0] for node in model.graph.node if node.op_type != "Constant"]
    found = [name for name in names if inside.fullmatch(name)]
    if not found:
        raise UnsupportedModelError(f"No layer {layer!r} in the graph. Known layers: {_listing(names)}.")
    return found[-1]


def _listing(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
