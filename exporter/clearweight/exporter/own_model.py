"""A classifier that was never in torch: a user's ONNX file, made ready, explained, and held against the file itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zipfile import BadZipFile

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.artifact import Explainer, explain_inputs
from clearweight.exporter.autodiff.node import subgraphs
from clearweight.exporter.errors import DataError
from clearweight.exporter.explain import EXPLAINERS, UnknownMethodError, VerificationError, build, verify
from clearweight.exporter.explain.record import record
from clearweight.exporter.graph.adaptation import adapt
from clearweight.exporter.graph.canonical import canonicalize
from clearweight.exporter.graph.errors import UnsupportedModelError
from clearweight.exporter.graph.measured_shape import state_shapes
from clearweight.exporter.graph.onnx_file import described, facts
from clearweight.exporter.graph.probability_tail import Tail, cut_tail, restore_tail
from clearweight.exporter.graph.session import session
from clearweight.exporter.graph.shape import BATCH
from clearweight.exporter.outside import move_outside

# How far an output may move by the rewriting of the graph, relative to the largest: float32 sums in another order.
OUTPUT_ERROR_MAX = 1e-3
# The same where the file itself computes in half precision.
HALF_OUTPUT_ERROR_MAX = 5e-2
_Settings = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class OwnModel:
    """A user's classifier, ready to be explained.

    Attributes
    ----------
    source : as it was read
    classifier : the same function with logits [N, C] as its output
    tail : the Softmax or Sigmoid that followed the logits, None where the output was the logits
    changes : what was done to get here, in words
    output_error_max : how far an output may be from the file's own, relative to the largest
    """

    source: onnx.ModelProto
    classifier: onnx.ModelProto
    tail: Tail | None
    changes: tuple[str, ...]
    output_error_max: float = OUTPUT_ERROR_MAX

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one input."""
        return _row(self.classifier)


def prepare(source: onnx.ModelProto, folder: Path | None = None) -> OwnModel:
    """Bring a model into the form that explainers take; opset (from 16 on) and IR version stay its own.

    Parameters
    ----------
    folder : where large parameters are put that got new values here, outside the model; None keeps them inside

    Raises
    ------
    GraphError
        It has what cannot be explained; the message says what was found and what was expected.
    """
    adapted = adapt(with_free_batch(source))
    changes = list(adapted.changes)
    ready = adapted.model
    try:
        ready = canonicalize(ready, opset=adapted.opset, ir_version=ready.ir_version)
    except UnsupportedModelError:
        # Several outputs, or control flow: not a form to compress, but what needs no gradient can explain it.
        if not _is_odd(ready):
            raise
    if folder is not None:
        ready = move_outside(ready, folder)
    before, after = facts(source), facts(ready)
    if before.operators.get("BatchNormalization", 0) > after.operators.get("BatchNormalization", 0):
        changes.append("BatchNormalization merged into the operator before it")
    outputs_of(
        ready, random_samples(_row(ready), 2)
    )  # a traced graph may fix the batch that it declares as free
    ready = state_shapes(ready)
    first, *others = ready.graph.output
    if others:
        changes.append(f"the first of {len(others) + 1} outputs, {first.name!r}, is explained")
    classifier, tail = cut_tail(ready)
    if tail is not None:
        changes.append(
            f"the logits before the final {tail.node.op_type} are explained: the derivative of a probability vanishes "
            "where the network is sure"
        )
    error = HALF_OUTPUT_ERROR_MAX if adapted.widened_from else OUTPUT_ERROR_MAX
    return OwnModel(source, classifier, tail, tuple(changes), error)


def with_free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose declared batch, where it is a number, is open: before constants are folded on it."""
    parameters = {tensor.name for tensor in model.graph.initializer}
    own = [entry for entry in model.graph.input if entry.name not in parameters]
    dims = [entry.type.tensor_type.shape.dim for entry in own]
    if len(own) != 1 or not dims[0] or not dims[0][0].HasField("dim_value"):
        return model
    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    for entry in (*freed.graph.input, *freed.graph.output):
        shape = entry.type.tensor_type.shape.dim
        if entry.name not in parameters and shape:
            shape[0].dim_param = BATCH
    del freed.graph.value_info[:]
    return freed


def _row(model: onnx.ModelProto) -> tuple[int, ...]:
    """Return the shape of one input.

    Raises
    ------
    UnsupportedModelError
        The input leaves more open than its batch.
    """
    source = model.graph.input[0]
    row = tuple(dim.dim_value for dim in list(source.type.tensor_type.shape.dim)[1:])
    if not row or 0 in row:
        raise UnsupportedModelError(
            f"The model takes {described(source)}, expected (N, ...) with only the batch open."
        )
    return row


def _is_odd(model: onnx.ModelProto) -> bool:
    """Tell whether a model has several outputs, or a node that holds a subgraph."""
    return len(model.graph.output) > 1 or any(subgraphs(node) for node in model.graph.node)


def random_samples(row: Sequence[int], count: int) -> NDArray[np.float32]:
    """Draw inputs to verify on, where a user gives none: standard normal, always the same."""
    drawn = np.random.default_rng(0).standard_normal((count, *row))
    return drawn.astype(np.float32)


def read_samples(path: Path, row: Sequence[int], count: int) -> NDArray[np.float32]:
    """Read the first inputs of an npz or npy file, preprocessed as the model takes them.

    Raises
    ------
    DataError
        It holds no array of shape (n, *row) with two or more rows, or no finite numbers.
    """
    try:
        with path.open("rb") as file:
            held: Any = np.load(file, allow_pickle=False)
            arrays = {"": held} if isinstance(held, np.ndarray) else {name: held[name] for name in held.files}
    except (OSError, ValueError, BadZipFile, EOFError) as error:
        raise DataError(f"{str(path)!r} cannot be read as npz or npy: {error}") from error
    fitting = [
        array
        for array in arrays.values()
        if array.dtype.kind in "fiu" and array.shape[1:] == tuple(row) and len(array) > 1
    ]
    if len(fitting) != 1:
        shapes = ", ".join(f"{name or 'array'} {array.dtype} {array.shape}" for name, array in arrays.items())
        expected = ", ".join(str(size) for size in row)
        raise DataError(
            f"{str(path)!r} holds {shapes or 'nothing'}, expected one array of shape (n, {expected}), n at least 2."
        )
    samples = fitting[0][:count].astype(np.float32)
    if not np.isfinite(samples).all():
        raise DataError(f"{str(path)!r} holds values that are not finite.")
    return samples


def explain_own(
    own: OwnModel,
    methods: Sequence[str],
    samples: NDArray[np.float32],
    *,
    layer: str | None = None,
    settings: _Settings = MappingProxyType({}),
    on_graph: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, tuple[onnx.ModelProto, Explainer]]:
    """Build and verify explain graphs of a user's model.

    Parameters
    ----------
    methods : keys of ``EXPLAINERS``
    samples : two or more inputs to verify on
    layer : feature map for the methods that explain one
    settings : method -> setting -> value
    on_graph : called as (done, total) after each

    Returns
    -------
    method -> self-contained graph with the model's own outputs, and its record

    Raises
    ------
    UnknownMethodError, NotApplicableError, AutodiffError
        A method that there is not, or that does not work on this network.
    VerificationError
        A graph does not compute what it should, or not what the file computes.
    """
    for method in methods:
        if method not in EXPLAINERS:
            raise UnknownMethodError(f"Unknown explainer {method!r}. Known: {', '.join(EXPLAINERS)}.")
    expected = outputs_of(own.source, samples)
    made = {}
    for method in methods:
        chosen = layer if EXPLAINERS[method].resolution == "feature" else None
        graph = build(own.classifier, method, layer=chosen, settings=settings.get(method, {}))
        entry = record(graph, verify(graph, own.classifier, samples, None))
        whole = graph.model if own.tail is None else restore_tail(graph.model, own.tail)
        _require_same(method, expected, run(whole, entry, samples)[1], own.output_error_max)
        made[method] = (whole, entry)
        on_graph(len(made), len(methods))
    return made


def run(
    graph: onnx.ModelProto, entry: Explainer, samples: NDArray[np.float32]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return map and first own output of a written graph on ONNX Runtime, for the arg-max of each row."""
    runtime = session(graph)
    further = explain_inputs(entry.inputs, samples.shape, steps=entry.steps, seed=0, settings=entry.settings)
    taken = {value.name for value in runtime.get_inputs()}
    (source,) = taken - {"target", *entry.inputs}
    feed = {source: samples, "target": np.full(len(samples), -1, np.int64), **further}
    found = runtime.run(None, feed)
    return found[0], found[1]


def outputs_of(model: onnx.ModelProto, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first output of a model as it came, also where it has a fixed batch or half precision.

    Raises
    ------
    UnsupportedModelError
        ONNX Runtime does not run it.
    """
    try:
        return _outputs(model, samples)
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise UnsupportedModelError(
            f"ONNX Runtime does not run the model on {len(samples)} inputs: {str(error).strip().splitlines()[-1]}"
        ) from error


def _outputs(model: onnx.ModelProto, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    runtime = session(model)
    (source,) = runtime.get_inputs()
    fixed = source.shape[0] if source.shape and isinstance(source.shape[0], int) else len(samples)
    typed = samples.astype(np.float16 if "float16" in source.type else np.float32)
    rows = []
    for start in range(0, len(samples), fixed):
        part = typed[start : start + fixed]
        filled = np.concatenate([part, np.repeat(part[-1:], fixed - len(part), axis=0)])
        rows.append(runtime.run(None, {source.name: filled})[0][: len(part)])
    return np.concatenate(rows).astype(np.float32)


def _require_same(method: str, expected: NDArray[np.float32], found: NDArray[Any], allowed: float) -> None:
    far = float(np.abs(expected - found).max())
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    if not far <= allowed * scale:
        raise VerificationError(
            f"The {method} graph returns other outputs than the model itself: they differ by {far:.3g}, where the "
            f"largest is {scale:.3g}."
        )
