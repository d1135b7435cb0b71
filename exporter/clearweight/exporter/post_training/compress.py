"""A whole network under one multiplier: every layer's step and every weight's value follow from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.artifact import CodedTensor
from clearweight.exporter.graph import split_parameters
from clearweight.exporter.graph.parameters import embed_parameters
from clearweight.exporter.post_training.layers import Layer, layers_of
from clearweight.exporter.post_training.moments import moments
from clearweight.exporter.post_training.quantize import LEVELS, Leaning, bend, leaning, quantize, step_of

Told = Callable[[int, int], None]


def _silent(_done: int, _total: int) -> None:
    pass


@dataclass(frozen=True, eq=False)
class Statistics:
    """What compression looks at, gathered once whatever is tried afterwards.

    Attributes
    ----------
    structure, parameters : the network apart from its numbers, and those
    leanings, bends : weight name -> what `quantize.leaning` and `quantize.bend` found
    """

    structure: onnx.ModelProto
    parameters: Mapping[str, NDArray[np.float32]]
    layers: tuple[Layer, ...]
    leanings: Mapping[str, Leaning]
    bends: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Compressed:
    """A network as it is stored, and as it runs."""

    tensors: tuple[CodedTensor, ...]
    model: onnx.ModelProto


def gather(
    model: onnx.ModelProto, inputs: NDArray[np.float32], *, threads: int = 1, on_row: Told = _silent
) -> Statistics:
    """Collect the statistics of every layer over unlabelled inputs."""
    layers = tuple(layers_of(model))
    found = moments(model, layers, inputs, threads=threads, on_row=on_row)
    # One layer after the other, so that moments and what follows from them are never all in memory.
    leanings = {layer.weight: leaning(found.pop(layer.weight)) for layer in layers}
    structure, parameters = split_parameters(model)
    bends = {name: bend(columns) for name, columns in leanings.items()}
    return Statistics(structure, parameters, layers, leanings, bends)


def compress(statistics: Statistics, multiplier: float, on_layer: Told = _silent) -> Compressed:
    """Quantize every layer, correct its bias, and round what else there is to float16.

    Parameters
    ----------
    multiplier : nats of divergence that a bit may cost: larger is smaller and worse
    """
    coded: dict[str, CodedTensor] = {}
    shifted: dict[str, NDArray[np.float64]] = {}
    for done, layer in enumerate(statistics.layers, start=1):
        columns = statistics.leanings[layer.weight]
        matrix = layer.matrix(statistics.parameters[layer.weight])
        coded[layer.weight] = code(layer, matrix, columns, multiplier, statistics.bends[layer.weight])
        if layer.bias is not None and layer.attributes.get("group", 1) == 1:
            lost = matrix - layer.matrix(coded[layer.weight].values)
            shifted[layer.bias] = statistics.parameters[layer.bias] + lost @ columns.mean
        on_layer(done, len(statistics.layers))
    for name, values in statistics.parameters.items():
        if name not in coded:
            coded[name] = CodedTensor(name, half(shifted.get(name, values)))
    tensors = tuple(coded[name] for name in statistics.parameters)
    return Compressed(tensors, embed_parameters(statistics.structure, {t.name: t.values for t in tensors}))


def code(
    layer: Layer, matrix: NDArray[np.float32], columns: Leaning, multiplier: float, bent: float
) -> CodedTensor:
    """Quantize one layer."""
    largest = float(np.abs(matrix).max())
    if largest == 0.0:
        return CodedTensor(layer.weight, layer.tensor(matrix))
    step = step_of(bent, multiplier, largest)
    chosen = layer.tensor(quantize(matrix, columns, multiplier, step)) + LEVELS
    multiples, places = np.unique(chosen, return_inverse=True)
    book = half((multiples.astype(np.float64) - LEVELS) * step)
    indices = places.astype(np.uint8).reshape(layer.shape)
    return CodedTensor(layer.weight, book[indices], book, indices)


def half(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Round to the nearest float16, kept as float32; beyond the range to its largest value."""
    limit = float(np.finfo(np.float16).max)
    rounded: NDArray[np.float32] = values.clip(-limit, limit).astype(np.float16).astype(np.float32)
    return rounded
