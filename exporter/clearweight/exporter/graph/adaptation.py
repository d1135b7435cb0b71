"""Any ONNX classifier made ready to be explained, changed as little as that takes, or refused by name.

Unlike the canonical form, which compression starts from, an adapted model keeps its opset, its IR version, its
parameters and the names of its values. What was changed is reported, and the adapted model gives the outputs of
the original: both are run on the same input before it is returned.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from numpy.typing import NDArray
from onnxscript import optimizer

from clearweight.exporter.graph.errors import UnsupportedModelError
from clearweight.exporter.graph.opset import at_supported_opset, opset_of
from clearweight.exporter.graph.precision import half_types, widen
from clearweight.exporter.graph.role import FLOATS
from clearweight.exporter.graph.session import session
from clearweight.exporter.outside import lies_outside

_SAMPLE_BATCH = 2
_SAMPLE_SIZE = 2**22  # elements; larger inputs are not worth the time of a check
# Largest difference of outputs, relative to the largest output: float32 sums in another order; rounding to half.
_TOLERANCE = 1e-4
_HALF_TOLERANCE = 5e-2


@dataclass(frozen=True, eq=False)
class Adaptation:
    """An adapted model and what was changed to make it.

    Attributes
    ----------
    model : the model to explain; the original itself where nothing had to be changed
    opset : its opset
    original_opset : that of the original
    widened_from : half-precision types that became float32, inputs and outputs too
    changes : one sentence per change, for people; empty where there was none
    difference : largest difference between an output of the two models on one random input, relative to the largest
        output; None where nothing was changed, or where the shape of the input leaves open what to feed
    """

    model: onnx.ModelProto
    opset: int
    original_opset: int
    widened_from: tuple[str, ...]
    changes: tuple[str, ...]
    difference: float | None


def adapt(model: onnx.ModelProto) -> Adaptation:
    """Make a classifier ready for ``explain.build``.

    Functions are inlined; initializers that are declared as inputs, too, become fixed; opset 7 to 15 is converted to
    17; float16 and bfloat16 become float32; what follows from constants alone (shapes, borders, indices) is
    evaluated. Opset 16 to 26 and the IR version stay.

    Parameters
    ----------
    model : self-contained, but for what `outside` moved; not modified

    Raises
    ------
    UnsupportedModelError
        Tensors outside the file or sparse ones, an opset that cannot be used, float64 or other input types, more
        than one input, an operator in training mode, or an adapted model with other outputs than the original.
    """
    _require_whole(model)
    original_opset = opset_of(model)
    changes: list[str] = []
    adapted = _plain(model, changes)
    _require_inference(adapted)
    converted = at_supported_opset(adapted)
    if converted is not adapted:
        changes.append(f"converted from opset {original_opset} to {opset_of(converted)}")
    half = half_types(converted)
    if half:
        converted = widen(converted)
        changes.append(f"widened from {' and '.join(half)} to float32, inputs and outputs too")
    _require_one_float_input(converted)
    folded = _without_constant_arithmetic(converted, changes)
    difference = _difference(model, folded, half) if changes else None
    return Adaptation(
        model=folded if changes else model,
        opset=opset_of(folded),
        original_opset=original_opset,
        widened_from=half,
        changes=tuple(changes),
        difference=difference,
    )


def _require_whole(model: onnx.ModelProto) -> None:
    if model.graph.sparse_initializer:
        name = model.graph.sparse_initializer[0].values.name
        raise UnsupportedModelError(f"Initializer {name!r} is sparse, expected dense ones.")
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL and not lies_outside(tensor):
            raise UnsupportedModelError(
                f"Initializer {tensor.name!r} lies outside the model, expected a self-contained model: "
                "load the external data first."
            )


def _plain(model: onnx.ModelProto, changes: list[str]) -> onnx.ModelProto:
    """Inline the model's own functions and fix initializers that a caller could override."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    declared = [entry.name for entry in model.graph.input if entry.name in initializers]
    if not declared and not model.functions:
        return model
    own = onnx.ModelProto()
    own.CopyFrom(model)
    own.ir_version = max(own.ir_version, 4)  # before, every initializer had to be an input
    intermediate = ir.from_proto(own)
    if model.functions:
        common_passes.InlinePass()(intermediate)
        changes.append(f"{len(model.functions)} functions written out where they are called")
    if declared:
        common_passes.RemoveInitializersFromInputsPass()(intermediate)
        changes.append(f"{len(declared)} parameters declared as inputs are fixed")
    return ir.to_proto(intermediate)


def _require_inference(model: onnx.ModelProto) -> None:
    """Refuse operators that are in training mode: their output depends on the batch or on chance."""
    truths = {
        tensor.name: bool(onnx.numpy_helper.to_array(tensor).any())
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.BOOL
    }
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            tensor = node.attribute[0].t
            if tensor.data_type == onnx.TensorProto.BOOL:
                truths[node.output[0]] = bool(onnx.numpy_helper.to_array(tensor).any())
        if _is_training(node, truths):
            raise UnsupportedModelError(
                f"{node.op_type} (node {node.name or node.output[0]!r}) is in training mode, expected a model exported "
                "for inference."
            )


def _is_training(node: onnx.NodeProto, truths: dict[str, bool]) -> bool:
    if node.op_type == "BatchNormalization":
        # Up to opset 13 training is what makes the further outputs; from 14 on it is an attribute.
        marked = any(entry.name == "training_mode" and entry.i for entry in node.attribute)
        return marked or any(node.output[1:])
    if node.op_type == "Dropout":
        return len(node.input) > 2 and bool(node.input[2]) and truths.get(node.input[2], True)
    return False


def _require_one_float_input(model: onnx.ModelProto) -> None:
    parameters = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in parameters]
    if len(inputs) != 1:
        listing = ", ".join(repr(entry.name) for entry in inputs) or "none"
        raise UnsupportedModelError(f"The model has {len(inputs)} inputs ({listing}), expected one.")
    element = inputs[0].type.tensor_type.elem_type
    if element != onnx.TensorProto.FLOAT:
        name = onnx.TensorProto.DataType.Name(element)
        advice = ": convert the model to float32 first" if element == onnx.TensorProto.DOUBLE else ""
        raise UnsupportedModelError(
            f"Input {inputs[0].name!r} has type {name}, expected FLOAT, FLOAT16 or BFLOAT16{advice}."
        )


def _without_constant_arithmetic(model: onnx.ModelProto, changes: list[str]) -> onnx.ModelProto:
    """Evaluate what depends on constants and known shapes alone; parameters are left as they are."""
    own = onnx.ModelProto()
    own.CopyFrom(model)
    intermediate = ir.from_proto(own)

    def should_fold(node: ir.Node) -> bool | None:
        reads_parameter = any(
            value is not None and value.is_initializer() and value.dtype in FLOATS for value in node.inputs
        )
        return False if reads_parameter or node.op_type == "Constant" else None

    before = [node.op_type for node in intermediate.graph if node.op_type != "Constant"]
    optimizer.fold_constants(intermediate, onnx_shape_inference=True, should_fold=should_fold)
    common_passes.RemoveUnusedNodesPass()(intermediate)
    after = [node.op_type for node in intermediate.graph if node.op_type != "Constant"]
    if before == after:
        return model
    changes.append(
        f"what follows from constants alone was evaluated: {len(before)} nodes became {len(after)}"
    )
    return ir.to_proto(intermediate)


def _difference(original: onnx.ModelProto, adapted: onnx.ModelProto, half: tuple[str, ...]) -> float | None:
    """Run both models on one input and compare; None where the input's shape is not known.

    Raises
    ------
    UnsupportedModelError
        Their outputs differ, or the original runs and the adapted one does not.
    """
    x = _sample(adapted)
    if x is None:
        return None
    try:
        first = session(original)
        kinds = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
        aim = first.run(None, {entry.name: x.astype(kinds[entry.type]) for entry in first.get_inputs()[:1]})
    except Exception:  # noqa: BLE001 - a model that does not run has nothing to be compared with
        return None
    try:
        got = session(adapted).run(None, {adapted_input(adapted): x})
    except Exception as error:
        raise UnsupportedModelError(f"The adapted model does not run: {error}") from error
    worst = 0.0
    for own, expected in zip(got, aim, strict=True):
        if not np.issubdtype(expected.dtype, np.floating):
            continue
        wide = expected.astype(np.float64)
        scale = max(float(np.abs(wide).max(initial=0.0)), 1e-12)
        worst = max(worst, float(np.abs(own.astype(np.float64) - wide).max(initial=0.0)) / scale)
    allowed = _HALF_TOLERANCE if half else _TOLERANCE
    if not worst <= allowed:
        raise UnsupportedModelError(
            f"The adapted model's outputs differ from the original's by {worst:.2g} of the largest, expected at most "
            f"{allowed}: export the model again at opset 17 in float32."
        )
    return worst


def adapted_input(model: onnx.ModelProto) -> str:
    """Name the one input of an adapted model."""
    parameters = {tensor.name for tensor in model.graph.initializer}
    return next(entry.name for entry in model.graph.input if entry.name not in parameters)


def _sample(model: onnx.ModelProto) -> NDArray[np.float32] | None:
    """Draw an input; the first axis may be open, all others must be known."""
    name = adapted_input(model)
    kind = next(entry for entry in model.graph.input if entry.name == name).type.tensor_type
    if not kind.HasField("shape") or not kind.shape.dim:
        return None
    first, *rest = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    shape = (first or _SAMPLE_BATCH, *rest)
    if 0 in shape or int(np.prod(shape)) > _SAMPLE_SIZE:
        return None
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
