"""Maps against finite differences of the model itself: the one check that trusts no backward pass.

Maps that are sums of gradients at known points (``WEIGHTED_POINTS``): along random directions v, ``<v, map>`` against
the sum of central differences of the logit at those points. Feature-level maps that weigh each channel by the
logit's slope along it (``CHANNEL_WEIGHTS``): the model behind the layer is run with each channel raised and lowered
as a whole. A method in neither table has no such check: it is no derivative of the model (deconvnet, guided
backpropagation, LRP), no linear function of derivatives (VarGrad, Grad-CAM++), or takes none at all.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.artifact import explain_inputs
from clearweight.exporter.explain.explain_graph import ExplainGraph
from clearweight.exporter.explain.float64 import Float64Twin, rows_at_once
from clearweight.exporter.explain.frozen_rounding import frozen_rounding

Array = NDArray[np.float64]
Inputs = Mapping[str, NDArray[Any]]
Points = tuple[Array, Array, Array]
"""Points (S, n, *row), their weights (S,), and what the weighted mean gradient is multiplied by (n, *row)."""

STEPS = 4
"""Path points or draws that are enough to check arithmetic; float64 evaluation is slow."""
# Small enough to cross hardly any of the ten thousands of kinks of a network with pooling; float64 leaves eight digits
# of a logit's slope even so.
_STEP = 1e-8
_DIRECTIONS = 3
_POINTS = 2
_JITTER = 0.1


def _at_input(x: Array, _inputs: Inputs, _settings: Mapping[str, float]) -> Points:
    return x[None], np.ones(1), np.ones_like(x)


def _times_input(x: Array, _inputs: Inputs, _settings: Mapping[str, float]) -> Points:
    return x[None], np.ones(1), x


def _along_path(x: Array, inputs: Inputs, _settings: Mapping[str, float]) -> Points:
    way = x - inputs["baseline"]
    share = inputs["path"].astype(np.float64).reshape(-1, *[1] * x.ndim)
    return inputs["baseline"] + share * way, inputs["path_weight"].astype(np.float64), way


def _at_noisy_copies(x: Array, inputs: Inputs, settings: Mapping[str, float]) -> Points:
    axes = tuple(range(1, x.ndim))
    width = x.max(axes, keepdims=True) - x.min(axes, keepdims=True)
    noise = inputs["noise"].astype(np.float64)[:, None]
    return (
        x + np.float32(settings["sigma"]) * width * noise,
        np.full(len(noise), 1 / len(noise)),
        np.ones_like(x),
    )


WEIGHTED_POINTS: Mapping[str, Callable[[Array, Inputs, Mapping[str, float]], Points]] = MappingProxyType(
    {
        "gradient": _at_input,
        "input_x_gradient": _times_input,
        "linearization": _at_input,
        "integrated_gradients": _along_path,
        "smoothgrad": _at_noisy_copies,
    }
)

# The weight of a channel from the slope of the logit along it and the number of its places.
CHANNEL_WEIGHTS: Mapping[str, Callable[[Array, int], Array]] = MappingProxyType(
    {"gradcam": lambda slope, places: slope / places, "swa": lambda slope, _places: slope}
)


def checking_inputs(graph: ExplainGraph, x: NDArray[Any], baseline: NDArray[Any] | None) -> Inputs:
    """Make the further inputs of a graph for a check, with few steps."""
    steps = min(graph.steps, STEPS) if graph.inputs else graph.steps
    given = None if baseline is None else baseline.astype(np.float32)
    return explain_inputs(graph.inputs, x.shape, steps=steps, seed=0, settings=graph.settings, baseline=given)


def difference_error(
    graph: ExplainGraph, model: onnx.ModelProto, samples: NDArray[np.float32]
) -> float | None:
    """Return how far float64 maps lie from finite differences, relative to the size of the latter.

    Both are taken near the first samples, not at them: real inputs hold equal pixels, where max pooling has a
    kink and no derivative to compare with.

    Returns
    -------
    The median over points and directions: a step that happens to cross a kink spoils one of them. None for a method
    that is no such derivative. Where roundings were passed straight through, the differences are those of the
    surrogate (``frozen_rounding``): a rounding itself has no derivative.
    """
    if graph.method not in {*WEIGHTED_POINTS, *CHANNEL_WEIGHTS}:
        return None
    generator = np.random.default_rng(0)
    points = samples[:_POINTS].astype(np.float64)
    scale = float(points.std()) or 1.0
    x = points + _JITTER * scale * generator.uniform(-1, 1, points.shape)
    inputs = checking_inputs(graph, x, _JITTER * scale * generator.uniform(-1, 1, points.shape))
    # Surrogates of roundings are frozen at one batch, which must stay whole.
    rows_once = None if graph.gradient_ste else rows_at_once(model)
    target = _logits(model, x, rows_once).argmax(axis=1)
    maps: Array = Float64Twin(graph.model, rows_once).run({_source(model): x, "target": target, **inputs})[
        "explain"
    ]
    if graph.layer is not None:
        return _channel_error(graph, model, graph.layer, x, target, maps)
    at, weights, factor = WEIGHTED_POINTS[graph.method](x, inputs, graph.settings)
    along = generator.choice([-1.0, 1.0], size=(_DIRECTIONS, *x.shape))
    # <v, factor o g> is the slope along factor o v.
    moves = _STEP * scale * (along * factor)[:, None]
    rows = np.stack([at + moves, at - moves])
    near = frozen_rounding(model, at.reshape(-1, *x.shape[1:])) if graph.gradient_ste else model
    logits = _logits(near, rows.reshape(-1, *x.shape[1:]), rows_once).reshape(*rows.shape[:4], -1)
    slopes = np.tensordot(weights, (logits[0] - logits[1]) / (2 * _STEP * scale), axes=(0, 1))
    if maps.ndim > x.ndim:  # one map for each class
        expected, got = slopes, np.einsum("dnr,ncr->dnc", _flat(along, 2), _flat(maps, 2))
        size = np.linalg.norm(_flat(maps, 2), axis=-1)
    else:
        expected = slopes[:, np.arange(len(x)), target]
        got = (along * maps).reshape(_DIRECTIONS, len(x), -1).sum(axis=-1)
        size = np.linalg.norm(_flat(maps, 1), axis=-1)
    return float(np.median(np.abs(got - expected) / np.maximum(size, np.finfo(float).tiny)))


def _channel_error(
    graph: ExplainGraph,
    model: onnx.ModelProto,
    layer: str,
    x: Array,
    target: NDArray[np.int64],
    maps: Array,
) -> float:
    """Derive the map again, each channel's weight from the slope of the logit along that channel."""
    features = Float64Twin(_with_output(model, layer)).run({_source(model): x})[layer]
    errors = []
    for row, a, chosen, got in zip(x, features, target, maps[:, 0], strict=True):
        near = frozen_rounding(model, row[None]) if graph.gradient_ste else model
        head = Float64Twin(_behind(near, layer))
        channels, places = a.shape[0], int(np.prod(a.shape[1:]))
        raised = _STEP * np.eye(channels).reshape(channels, channels, *[1] * (a.ndim - 1))
        rows = np.concatenate([a + raised, a - raised])
        logits = head.run({layer: rows})[model.graph.output[0].name].reshape(2, channels, -1)
        alpha = CHANNEL_WEIGHTS[graph.method]((logits[0] - logits[1])[:, chosen] / (2 * _STEP), places)
        expected = np.maximum(np.tensordot(alpha, a, axes=1), 0)
        # Relative to what could have been seen: the map itself may be rectified to nothing.
        size = np.tensordot(np.abs(alpha), np.abs(a), axes=1).max()
        errors.append(np.abs(expected - got).max() / max(size, np.finfo(float).tiny))
    return float(np.median(errors))


def _flat(values: Array, leading: int) -> Array:
    return values.reshape(*values.shape[:leading], -1)


def _logits(model: onnx.ModelProto, x: Array, rows: int | None) -> Array:
    found: Array = Float64Twin(model, rows).run({_source(model): x})[model.graph.output[0].name]
    return found


def _with_output(model: onnx.ModelProto, value: str) -> onnx.ModelProto:
    """Let a model return one of its values instead of its logits."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    opened.graph.output.add(name=value).type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return opened


def _behind(model: onnx.ModelProto, value: str) -> onnx.ModelProto:
    """Cut a model off before a value, which becomes its input."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    needed, kept = {output.name for output in model.graph.output}, []
    for node in reversed(model.graph.node):
        if any(name in needed for name in node.output) and value not in node.output:
            kept.append(node)
            needed.update(node.input)
    del cut.graph.node[:]
    cut.graph.node.extend(kept[::-1])
    others = [entry for entry in model.graph.input if entry.name in needed and entry.name != _source(model)]
    del cut.graph.input[:]
    cut.graph.input.extend(others)
    cut.graph.input.add(name=value).type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return cut


def _source(model: onnx.ModelProto) -> str:
    parameters = {tensor.name for tensor in model.graph.initializer}
    return next(entry.name for entry in model.graph.input if entry.name not in parameters)
