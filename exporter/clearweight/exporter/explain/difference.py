"""Maps against finite differences of the model itself: the one check that trusts no backward pass.

Input-level maps: along random directions v, ``<v, g>`` against the central difference of the logit. Grad-CAM: the
model behind the layer is run with each channel raised and lowered as a whole, which gives every ``alpha_k``.
"""

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.explain.explain_graph import ExplainGraph
from clearweight.exporter.explain.float64 import Float64Twin

_STEP = 1e-6
_DIRECTIONS = 3
_POINTS = 2
_JITTER = 0.1


def difference_error(graph: ExplainGraph, model: onnx.ModelProto, samples: NDArray[np.float32]) -> float:
    """Return how far float64 maps lie from finite differences, relative to the size of the latter.

    Both are taken near the first samples, not at them: real inputs hold equal pixels, where max pooling has a
    kink and no derivative to compare with.

    Returns
    -------
    The median over points and directions: a step that happens to cross a kink spoils one of them.
    """
    generator = np.random.default_rng(0)
    points = samples[:_POINTS].astype(np.float64)
    scale = float(points.std()) or 1.0
    x = points + _JITTER * scale * generator.uniform(-1, 1, points.shape)
    target = _run(model, x)[model.graph.output[0].name].argmax(axis=1)
    inputs = {_source(model): x, "target": target}
    maps: NDArray[np.float64] = Float64Twin(graph.model).run(inputs)["explain"]
    if graph.layer is not None:
        return _feature_error(model, graph.layer, x, target, maps)
    along = generator.choice([-1.0, 1.0], size=(_DIRECTIONS, *x.shape))
    # <v, x o g> is the slope along x o v.
    unit = _STEP if graph.method == "input_x_gradient" else _STEP * scale
    steps = unit * (along * x if graph.method == "input_x_gradient" else along)
    rows = np.concatenate([x + steps, x - steps]).reshape(-1, *x.shape[1:])
    logits = _run(model, rows)[model.graph.output[0].name].reshape(2, _DIRECTIONS, len(x), -1)
    expected = ((logits[0] - logits[1]) / (2 * unit))[:, np.arange(len(x)), target]
    got = (along * maps).reshape(_DIRECTIONS, len(x), -1).sum(axis=-1)
    size = np.linalg.norm(maps.reshape(len(x), -1), axis=1)
    return float(np.median(np.abs(got - expected) / np.maximum(size, np.finfo(float).tiny)))


def _feature_error(
    model: onnx.ModelProto,
    layer: str,
    x: NDArray[np.float64],
    target: NDArray[np.int64],
    maps: NDArray[np.float64],
) -> float:
    """Derive Grad-CAM again, each channel's mean gradient as the slope of the logit along that channel."""
    features = _run(_with_output(model, layer), x)[layer]
    head = Float64Twin(_behind(model, layer))
    errors = []
    for a, chosen, got in zip(features, target, maps[:, 0], strict=True):
        channels, places = a.shape[0], int(np.prod(a.shape[1:]))
        raised = _STEP * np.eye(channels).reshape(channels, channels, *[1] * (a.ndim - 1))
        rows = np.concatenate([a + raised, a - raised])
        logits = head.run({layer: rows})[model.graph.output[0].name].reshape(2, channels, -1)
        alpha = (logits[0] - logits[1])[:, chosen] / (2 * _STEP * places)
        expected = np.maximum(np.tensordot(alpha, a, axes=1), 0)
        # Relative to what could have been seen: the map itself may be rectified to nothing.
        size = np.tensordot(np.abs(alpha), np.abs(a), axes=1).max()
        errors.append(np.abs(expected - got).max() / max(size, np.finfo(float).tiny))
    return float(np.median(errors))


def _run(model: onnx.ModelProto, x: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return Float64Twin(model).run({_source(model): x})


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
