"""The canonical graph: the one form in which models are compressed, differentiated, stored and served.

Opset 18; one float32 input ``(N, ...)`` and one output ``(N, C)`` with a free batch; BatchNormalization
merged; nothing that does nothing at inference; initializers are exactly the parameters and every other
constant is a Constant node; nodes in topological order with stable names; known shapes; no metadata,
producer, documentation or path. The same model gives the same bytes wherever it is made.
"""

from collections.abc import Collection

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from clearweight.exporter.graph import constant, naming, onnx_fold, simplify
from clearweight.exporter.graph.errors import UnsupportedModelError
from clearweight.exporter.graph.shape import BATCH, free_batch
from clearweight.exporter.outside import ROOT, check, lies_outside

OPSET = 18
IR_VERSION = 10
_GRAPH_NAME = "clearweight"


def canonicalize(
    model: onnx.ModelProto,
    *,
    parameters: Collection[str] | None = None,
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
) -> onnx.ModelProto:
    """Bring an ONNX classifier into the canonical form; a canonical one comes back unchanged.

    Parameters
    ----------
    model : no external data but what `outside` moved, any opset that converts to 18; not modified
    parameters : names, optional
        Initializers that are parameters whatever reads them (the torch names). Weights and biases by the
        operator's definition are parameters without being named. None means the origin is unknown: then
        every float tensor of more than one element that is not a mere setting is one too.
    opset, ir_version : to write, 16 or later; what is stored and served has the default ones

    Raises
    ------
    UnsupportedModelError
        More than one input or output, an operator outside the standard domain, a control-flow subgraph,
        a sparse initializer, a fixed batch, or an opset that cannot be converted.
    """
    _require_readable(model)
    own = onnx.ModelProto()  # onnx_ir reads tensors in place, so renaming one would rename the caller's
    own.CopyFrom(model)
    intermediate = ir.from_proto(_at_opset(own, opset))
    ir.external_data.set_base_dir(intermediate.graph, ROOT)
    common_passes.InlinePass()(intermediate)
    common_passes.RemoveInitializersFromInputsPass()(intermediate)
    _require_classifier(intermediate)
    _forget_batch(intermediate)
    transform(intermediate, parameters)
    return _to_proto(intermediate, opset, ir_version)


def transform(model: ir.Model, names: Collection[str] | None) -> None:
    """Run the passes in their order, in place."""
    found = constant.separate(model, names)
    constant.fold_constants(model, found)
    simplify.remove_pass_through(model)
    simplify.remove_zero_bias(model, found)
    onnx_fold.fold_batch_normalization(model)
    kept = constant.separate(model, set(found) if names is None else names)
    constant.constants_to_nodes(model, set(kept))
    common_passes.RemoveUnusedNodesPass()(model)
    common_passes.TopologicalSortPass()(model)
    naming.name_nodes(model)


def _require_readable(model: onnx.ModelProto) -> None:
    if model.graph.sparse_initializer:
        raise UnsupportedModelError(
            f"Initializer {model.graph.sparse_initializer[0].values.name!r} is sparse, expected dense ones: "
            "sparse files are for exchange and are written last."
        )
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL and not lies_outside(tensor):
            raise UnsupportedModelError(
                f"Initializer {tensor.name!r} lies outside the model, expected a self-contained model: "
                "load the external data or embed the parameters first."
            )


def _at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    version = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)
    if version == opset:
        return model
    try:
        return onnx.version_converter.convert_version(model, opset)
    except Exception as error:
        raise UnsupportedModelError(
            f"The model has opset {version} and cannot be converted to {opset}: {str(error).splitlines()[0]}"
        ) from error


def _require_classifier(model: ir.Model) -> None:
    graph = model.graph
    for kind, values in (("input", graph.inputs), ("output", graph.outputs)):
        if len(values) != 1:
            listing = ", ".join(repr(value.name) for value in values)
            raise UnsupportedModelError(f"The graph has {len(values)} {kind}s ({listing}), expected one.")
        if values[0].dtype is not ir.DataType.FLOAT:
            raise UnsupportedModelError(
                f"The {kind} {values[0].name!r} has type {values[0].dtype}, expected FLOAT."
            )
    source = graph.inputs[0]
    if source.shape is None or source.shape.rank() == 0:
        raise UnsupportedModelError(f"Input {source.name!r} has no shape, expected (N, ...).")
    for axis, size in enumerate(source.shape):
        if axis > 0 and not isinstance(size, int):
            raise UnsupportedModelError(
                f"Input {source.name!r} has a free axis {axis} ({size}), expected only the batch to be free."
            )
    for node in graph:
        if node.domain not in {"", "ai.onnx"}:
            raise UnsupportedModelError(
                f"Operator {node.domain}::{node.op_type} (node {node.name!r}) is not a standard ONNX operator."
            )
        for attribute in node.attributes.values():
            if attribute.type in {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}:
                raise UnsupportedModelError(
                    f"Operator {node.op_type} (node {node.name!r}) holds a subgraph, expected no control flow."
                )


def _forget_batch(model: ir.Model) -> None:
    """Free a declared batch size before constants are folded, or it would be folded into the graph."""
    source = model.graph.inputs[0]
    if source.shape is None or not isinstance(source.shape[0], int):
        return
    source.shape = ir.Shape([BATCH, *list(source.shape)[1:]])
    for node in model.graph:
        for output in node.outputs:
            output.shape = None


def _to_proto(model: ir.Model, opset: int, ir_version: int) -> onnx.ModelProto:
    """Serialise without anything that is not the model."""
    written = ir.to_proto(model)
    canonical = onnx.ModelProto(ir_version=ir_version)
    canonical.opset_import.add(domain="", version=opset)
    graph = canonical.graph
    graph.name = _GRAPH_NAME
    for node in written.graph.node:
        entry = graph.node.add(op_type=node.op_type, name=node.name)
        entry.input.extend(node.input)
        entry.output.extend(node.output)
        for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
            added = entry.attribute.add()
            added.CopyFrom(attribute)
            added.ClearField("doc_string")
            if added.HasField("t"):
                added.t.ClearField("name")
    for tensor in sorted(written.graph.initializer, key=lambda tensor: _first_use(written, tensor.name)):
        graph.initializer.append(tensor if lies_outside(tensor) else _plain(tensor))
    for origin, target in ((written.graph.input, graph.input), (written.graph.output, graph.output)):
        for value in origin:
            entry_value = target.add(name=value.name)
            entry_value.type.tensor_type.CopyFrom(value.type.tensor_type)
    free_batch(canonical)
    check(canonical, full=True)
    return canonical


def _plain(tensor: onnx.TensorProto) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)


def _first_use(model: onnx.ModelProto, name: str) -> tuple[int, int]:
    """Order parameters as the graph reads them."""
    for position, node in enumerate(model.graph.node):
        if name in node.input:
            return position, list(node.input).index(name)
    return len(model.graph.node), 0
