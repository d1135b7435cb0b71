"""A whole network under one multiplier: every layer's step and every weight's value follow from it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.artifact import CodedTensor
from clearweight.exporter.graph.parameters import embed_parameters, structure_of
from clearweight.exporter.outside import Parameters
from clearweight.exporter.post_training.layers import Layer, layers_of
from clearweight.exporter.post_training.moments import moments
from clearweight.exporter.post_training.quantize import Leaning, bend, leaning, quantize, step_of
from clearweight.exporter.post_training.shelf import Shelf

Told = Callable[[int, int], None]
_WIDENED = 1 << 22  # elements that are widened to float64 at once


def _silent(_done: int, _total: int) -> None:
    pass


@dataclass(frozen=True, eq=False)
class Statistics:
    """What compression looks at, gathered once whatever is tried afterwards.

    Attributes
    ----------
    structure, parameters : the network apart from its numbers, and those, read when they are asked for
    leanings, bends : weight name -> what `quantize.leaning` and `quantize.bend` found
    """

    structure: onnx.ModelProto
    parameters: Mapping[str, NDArray[np.float32]]
    layers: tuple[Layer, ...]
    leanings: Mapping[str, Leaning]
    bends: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Code:
    """One parameter as it is stored: a value for every index, or, without indices, the values themselves."""

    name: str
    book: NDArray[np.float32]
    indices: NDArray[np.uint8] | None = None

    @property
    def values(self) -> NDArray[np.float32]:
        """Look the values up."""
        return self.book if self.indices is None else _looked_up(self.book, self.indices)

    def tensor(self) -> CodedTensor:
        """Return what the writer takes."""
        return CodedTensor(self.name, self.values, None if self.indices is None else self.book, self.indices)


class Tensors(Sequence[CodedTensor]):
    """What is stored, in the graph's order; values are looked up tensor by tensor, never all at once."""

    def __init__(self, codes: Sequence[Code]) -> None:
        self._codes = codes

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, index: int) -> CodedTensor: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[CodedTensor]: ...

    def __getitem__(self, index: int | slice) -> CodedTensor | Sequence[CodedTensor]:
        if isinstance(index, slice):
            return Tensors(self._codes[index])
        return self._codes[index].tensor()


@dataclass(frozen=True, eq=False)
class Compressed:
    """A network as it is stored, and as it runs."""

    tensors: Sequence[CodedTensor]
    model: onnx.ModelProto


def gather(
    model: onnx.ModelProto, inputs: NDArray[np.float32], *, threads: int = 1, on_row: Told = _silent
) -> Statistics:
    """Collect the statistics of every layer over unlabelled inputs."""
    layers = tuple(layers_of(model))
    shelf = Shelf()
    found = moments(model, layers, inputs, threads=threads, on_row=on_row)
    leanings = {weight: leaning(moment, shelf.keep) for weight, moment in found}
    bends = {name: bend(columns) for name, columns in leanings.items()}
    return Statistics(structure_of(model), Parameters(model), layers, leanings, bends)


def compress(
    statistics: Statistics, multiplier: float, folder: Path | None = None, on_layer: Told = _silent
) -> Compressed:
    """Quantize every layer, correct its bias, and round what else there is to float16.

    Parameters
    ----------
    multiplier : nats of divergence that a bit may cost: larger is smaller and worse
    folder : where large parameters of the model are written, outside it; None has all inside
    """
    codes: dict[str, Code] = {}
    shifted: dict[str, NDArray[np.float64]] = {}
    for done, layer in enumerate(statistics.layers, start=1):
        columns = statistics.leanings[layer.weight]
        matrix = layer.matrix(statistics.parameters[layer.weight])
        codes[layer.weight] = code(layer, matrix, columns, multiplier, statistics.bends[layer.weight])
        if layer.bias is not None and layer.attributes.get("group", 1) == 1:
            lost = _mean_loss(matrix, layer.matrix(codes[layer.weight].values), columns.mean)
            shifted[layer.bias] = statistics.parameters[layer.bias] + lost
        on_layer(done, len(statistics.layers))
    for name, values in statistics.parameters.items():
        if name not in codes:
            codes[name] = Code(name, half(shifted.get(name, values)))
    ordered = Tensors([codes[name] for name in statistics.parameters])
    return Compressed(ordered, embed_parameters(statistics.structure, _Values(codes), folder))


class _Values(Mapping[str, NDArray[np.float32]]):
    """The values behind codes, each looked up when it is asked for."""

    def __init__(self, codes: Mapping[str, Code]) -> None:
        self._codes = codes

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._codes[name].values

    def __iter__(self) -> Iterator[str]:
        return iter(self._codes)

    def __len__(self) -> int:
        return len(self._codes)


def _mean_loss(
    matrix: NDArray[np.float32], stored: NDArray[np.float32], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what every output loses on average, (outputs,); some rows at a time, as they are widened."""
    rows = max(1, _WIDENED // matrix.shape[1])
    return np.concatenate(
        [
            (matrix[start : start + rows] - stored[start : start + rows]) @ mean
            for start in range(0, len(matrix), rows)
        ]
    )


def code(layer: Layer, matrix: NDArray[np.float32], columns: Leaning, multiplier: float, bent: float) -> Code:
    """Quantize one layer."""
    largest = float(max(matrix.max(), -matrix.min()))
    if largest == 0.0:
        return Code(layer.weight, layer.tensor(matrix))
    step = step_of(bent, multiplier, largest)
    chosen = layer.tensor(quantize(matrix, columns, multiplier, step))
    symbols = chosen.view(np.uint8)
    used = sum(np.bincount(part.reshape(-1), minlength=256) for part in symbols)
    multiples = np.sort(np.flatnonzero(used).astype(np.uint8).view(np.int8))
    ranks = np.zeros(256, np.uint8)
    ranks[multiples.view(np.uint8)] = np.arange(len(multiples))
    return Code(layer.weight, half(multiples.astype(np.float64) * step), _looked_up(ranks, symbols))


def _looked_up(table: NDArray[Any], indices: NDArray[np.uint8]) -> NDArray[Any]:
    """Return ``table[indices]``; numpy would widen all indices to eight bytes at once."""
    found = np.empty(indices.shape, table.dtype)
    for part, own in zip(indices, found, strict=True):
        own[...] = table[part]
    return found


def half(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Round to the nearest float16, kept as float32; beyond the range to its largest value."""
    limit = float(np.finfo(np.float16).max)
    rounded: NDArray[np.float32] = values.clip(-limit, limit).astype(np.float16).astype(np.float32)
    return rounded
