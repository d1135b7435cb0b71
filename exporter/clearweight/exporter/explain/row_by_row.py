"""The forward-only maps once more: numpy round the model itself, one perturbed row at a time.

Their graphs differentiate nothing, so finite differences have nothing to say about them, and the reference
implementation would take minutes for hundreds of rows. This is the check that trusts neither the graph nor what built
it: plain loops over windows, masks and places, the model asked through ONNX Runtime, sums in float64.
"""

from collections.abc import Callable, Mapping
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.explain.explain_graph import ExplainGraph
from clearweight.exporter.graph import session

Map = NDArray[np.float64]
Scores = Callable[[NDArray[Any]], NDArray[np.float64]]
"""One input to the explained logit of it."""


def row_by_row(graph: ExplainGraph, model: onnx.ModelProto, inputs: Mapping[str, NDArray[Any]]) -> Map:
    """Compute the maps of a forward-only explainer without its graph.

    Parameters
    ----------
    graph : of a method in ``ROW_BY_ROW``
    model : what it was built from, self-contained
    inputs : all inputs of the graph by name; ``target`` INT64 (n,), -1 for the arg-max

    Returns
    -------
    float64, the shape of ``graph.map_shape`` with n rows
    """
    parameters = {tensor.name for tensor in model.graph.initializer}
    source = next(entry.name for entry in model.graph.input if entry.name not in parameters)
    logits = model.graph.output[0].name
    running = session(model)
    x, target = inputs[source], inputs["target"]
    best = running.run([logits], {source: x})[0].argmax(axis=1)
    chosen = np.where(target < 0, best, target)
    if graph.layer is not None:
        features = session(_cut(model, source, graph.layer)).run(None, {source: x})[0]
        rows, running, source = features, session(_cut(model, graph.layer, logits)), graph.layer
    else:
        rows = x
    maps = []
    for index, (row, c) in enumerate(zip(rows, chosen, strict=True)):

        def score(changed: NDArray[Any], c: int = int(c)) -> float:
            fed = {source: changed[None].astype(x.dtype)}
            return float(running.run([logits], fed)[0][0, c])

        own = {name: inputs[name] for name in graph.inputs}
        own |= {"baseline": inputs["baseline"][index]} if "baseline" in own else {}
        maps.append(ROW_BY_ROW[graph.method](row, score, own, graph.settings))
    return np.stack(maps).reshape(len(x), *graph.map_shape[1:])


def _occlusion(
    row: NDArray[Any], score: Any, inputs: Mapping[str, NDArray[Any]], settings: Mapping[str, float]
) -> Map:
    space = row.shape[1:] if row.ndim > 1 else row.shape
    size, stride = int(settings["window"]), int(settings["stride"])
    whole, total, cover = score(row), np.zeros(space), np.zeros(space)
    edges = []
    for length in space:
        last = length - min(size, length)
        edges.append(sorted({*range(0, last + 1, stride), last}))
    for corner in product(*edges):
        window: tuple[Any, ...] = tuple(slice(start, start + size) for start in corner)
        hidden = row.copy()
        inside: tuple[Any, ...] = (..., *window)
        hidden[inside] = inputs["baseline"][inside]
        total[window] += whole - score(hidden)
        cover[window] += 1
    found: Map = total / cover
    return found


def _rise(
    row: NDArray[Any], score: Any, inputs: Mapping[str, NDArray[Any]], settings: Mapping[str, float]
) -> Map:
    space = row.shape[1:] if row.ndim > 1 else row.shape
    total = np.zeros(space)
    cells = int(settings["grid"])
    for grid, shift in zip(inputs["masks"], inputs["shifts"], strict=True):
        mask = grid.astype(np.float64)
        for axis, length in enumerate(space):
            # In cells from the first centre; np.interp holds the outermost values beyond the ends.
            at = (np.arange(length) + 0.5) / length * cells + shift[axis] - 0.5
            spread = np.stack([np.interp(at, np.arange(cells + 1), cell) for cell in np.eye(cells + 1)])
            mask = np.moveaxis(np.tensordot(mask, spread, axes=(axis, 0)), -1, axis)
        total += score(row * mask) * mask
    found: Map = total / len(inputs["masks"]) / settings["keep"]
    return found


def _reciprocam(
    row: NDArray[Any], score: Any, _inputs: Mapping[str, NDArray[Any]], settings: Mapping[str, float]
) -> Map:
    space = row.shape[1:]
    found = np.zeros(space)
    for place in np.ndindex(*space):
        mask = np.zeros(space)
        if settings["gaussian"]:
            for step in product((-1, 0, 1), repeat=len(space)):
                beside = tuple(np.add(place, step))
                if all(0 <= at < length for at, length in zip(beside, space, strict=True)):
                    mask[beside] = np.prod([0.25 if move else 0.5 for move in step])
        else:
            mask[place] = 1
        found[place] = score(row * mask)
    return found


ROW_BY_ROW: Mapping[str, Callable[..., Map]] = MappingProxyType(
    {"occlusion": _occlusion, "rise": _rise, "reciprocam": _reciprocam}
)


def _cut(model: onnx.ModelProto, source: str, result: str) -> onnx.ModelProto:
    """Take out what computes one value from another."""
    kinds = {
        value.name: value
        for value in (
            *onnx.shape_inference.infer_shapes(model).graph.value_info,
            *model.graph.input,
            *model.graph.output,
        )
    }
    nodes, needed = [], {result}
    for node in reversed(model.graph.node):
        if source not in node.output and needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    cut = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    cut.graph.name = "part"
    cut.graph.node.extend(nodes[::-1])
    cut.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    cut.graph.input.add().CopyFrom(kinds[source])
    cut.graph.output.add().CopyFrom(kinds[result])
    return cut
