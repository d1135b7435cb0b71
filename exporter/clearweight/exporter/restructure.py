"""From the network as it was trained to the network as it runs: its graph rebuilt round what the constraints promise.

Training keeps the reference's shape, so that every module and unit corresponds. What ships need not: dropped filters
are taken out, block-diagonal layers run block by block, factored ones as two. The codes
move along: the writer need not guess them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from clearweight.artifact import CodedTensor
from clearweight.exporter.compress.constraint import (
    TileConstraint,
    coded_tensor,
    constraints_of,
    factored,
    value_of,
    whole_names,
)
from clearweight.exporter.compress.mpd import BlockMask, block_masks
from clearweight.exporter.compress.prune_filters import filter_masks
from clearweight.exporter.graph.blocks import Blocks, in_blocks
from clearweight.exporter.graph.factors import in_two
from clearweight.exporter.graph.shrink import shrink


@dataclass(frozen=True, eq=False)
class Restructured:
    """A network as it runs.

    Attributes
    ----------
    tensors : its parameters with their codes
    stands_for : parameter -> how many of the reference's it stands for, where that is not all its elements
    channels : value -> which of the reference's channels it still has; only those that lost some
    """

    model: onnx.ModelProto
    tensors: tuple[CodedTensor, ...]
    stands_for: Mapping[str, int]
    channels: Mapping[str, NDArray[np.int64]]


def restructure(module: nn.Module, model: onnx.ModelProto, tensors: Sequence[CodedTensor]) -> Restructured:
    """Rebuild the graph of a constrained module.

    Parameters
    ----------
    module : with its constraints in place
    model : its canonical graph
    tensors : codes of the graph's parameters, in any order
    """
    codes = {tensor.name: tensor for tensor in (*tensors, *_in_tiles(module, model))}
    whole = tuple(codes[name] for name in whole_names(module) if name in codes)
    found = _in_factors(Restructured(model, whole, {}, {}), module)
    if any(not bool(mask.all()) for _, mask in filter_masks(module)):
        found = _without_filters(found)
    if masks := block_masks(module):
        found = _in_blocks(found, masks)
    return found


def _in_tiles(module: nn.Module, model: onnx.ModelProto) -> Iterator[CodedTensor]:
    """Yield what is made of tiles: the graph keeps the whole weight, the packed file holds its tiles.

    Where a later step has constrained the whole weight again, it is no longer what its tiles give.
    """
    for initializer in model.graph.initializer:
        name, values = initializer.name, onnx.numpy_helper.to_array(initializer)
        found = factored(module, name)
        if isinstance(found, TileConstraint):
            parts = {factor: coded_tensor(module, f"{name}.{factor}") for factor in found.factors}
            last = list(constraints_of(module, name))[-1] is found
            yield found.tiled(name, values, parts) if last else CodedTensor(name, values)


def _in_factors(network: Restructured, module: nn.Module) -> Restructured:
    """Run what is factored as two layers; the product stays where it is read in another way."""
    kept = {tensor.name: tensor for tensor in network.tensors}
    whole = {t.name: t.dims for t in network.model.graph.initializer}
    pairs = {
        name: (f"{name}.{found.factors[0]}", f"{name}.{found.factors[1]}")
        for name in whole
        if (found := factored(module, name)) is not None and not isinstance(found, TileConstraint)
    }
    if not pairs:
        return network
    parts = {name: coded_tensor(module, name) for pair in pairs.values() for name in pair}
    model, done = in_two(network.model, pairs, {name: part.values for name, part in parts.items()})
    stands_for = dict(network.stands_for)
    for name in done:
        first, second = pairs[name]
        stands_for |= {first: prod(whole[name]), second: 0}
    kept |= parts
    for name in set(pairs) - done:
        kept[name] = CodedTensor(name, value_of(module, name).detach().cpu().numpy())
    present = [t.name for t in model.graph.initializer]
    return Restructured(model, tuple(kept[name] for name in present), stands_for, network.channels)


def _without_filters(network: Restructured) -> Restructured:
    small = shrink(network.model)
    return Restructured(
        small.model,
        tuple(_moved(network.tensors, small.elements)),
        _counted(network, small.elements),
        small.channels,
    )


def _in_blocks(network: Restructured, masks: Mapping[str, BlockMask]) -> Restructured:
    made = in_blocks(
        network.model,
        {name: Blocks(m.rows.cpu().numpy(), m.columns.cpu().numpy()) for name, m in masks.items()},
    )
    columns = [CodedTensor(name, values) for name, values in made.columns.items()]
    beside = dict.fromkeys(made.columns, 0)
    return Restructured(
        made.model,
        (*_moved(network.tensors, made.elements), *columns),
        {**_counted(network, made.elements), **beside},
        network.channels,
    )


def _counted(network: Restructured, elements: Mapping[str, NDArray[np.int64]]) -> dict[str, int]:
    """Let every parameter that changes stand for what it was."""
    return {t.name: t.values.size for t in network.tensors if t.name in elements} | dict(network.stands_for)


def _moved(tensors: Sequence[CodedTensor], elements: Mapping[str, NDArray[np.int64]]) -> list[CodedTensor]:
    return [taken(t, elements[t.name]) if t.name in elements else t for t in tensors]


def taken(tensor: CodedTensor, elements: NDArray[np.int64]) -> CodedTensor:
    """Return the elements of a tensor at flat positions, with their code; -1 is a zero, code 0."""
    empty, at = elements < 0, np.maximum(elements, 0)
    values = np.where(empty, np.float32(0), tensor.values.reshape(-1)[at])
    if tensor.indices is None:
        return CodedTensor(tensor.name, values)
    return CodedTensor(
        tensor.name, values, tensor.codebook, np.where(empty, np.uint8(0), tensor.indices.reshape(-1)[at])
    )
