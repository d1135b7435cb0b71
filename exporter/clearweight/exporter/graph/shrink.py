"""Take channels out of a network that make no difference: those always zero, and those nobody listens to.

What is left computes the same function. Pruned filters leave such channels behind; here they stop costing time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.graph.channel_rules import channels, padded_channels, zero_slices
from clearweight.exporter.graph.channels import Channels, Ids
from clearweight.exporter.graph.shape import free_batch


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A network without the channels that make no difference.

    Attributes
    ----------
    elements : parameter -> where each of its elements was before, flat; of its new shape; only those that were cut
    channels : value -> which of its former channels it still has; only those that lost some
    """

    model: onnx.ModelProto
    elements: Mapping[str, NDArray[np.int64]]
    channels: Mapping[str, Ids]


def shrink(model: onnx.ModelProto) -> Shrunk:
    """Take out of a canonical model every channel that makes no difference, until none is left."""
    before = channels(model)
    kept = {name: np.arange(len(ids)) for name, ids in before.of.items()}
    elements: dict[str, NDArray[np.int64]] = {}
    now, found = model, before
    while removed := _leaving_one(without_effect(now, found), found):
        gone = np.array(sorted(removed))
        now, positions = _cut(now, found, gone)
        for name, taken in positions.items():
            elements[name] = elements[name].reshape(-1)[taken] if name in elements else taken
        kept = {name: kept[name][~np.isin(ids, gone)] for name, ids in found.of.items()}
        found = channels(now)
    fewer = {name: rest for name, rest in kept.items() if len(rest) < len(before.of[name])}
    return Shrunk(now, elements, fewer)


def without_effect(model: onnx.ModelProto, found: Channels) -> frozenset[int]:
    """Return the groups that can be taken out one by one without a change."""
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    needed = set(found.pinned)
    for cut in found.slices:
        if cut.reads:
            heard = ~cut.silent & ~zero_slices(values[cut.parameter], cut.axis)
            needed.update(cut.ids[heard].tolist())
    return frozenset(group for ids in found.of.values() for group in ids.tolist()) - needed


def _leaving_one(removed: frozenset[int], found: Channels) -> frozenset[int]:
    """Keep a channel of every value."""
    rest = set(removed)
    for ids in found.of.values():
        if rest.issuperset(ids.tolist()):
            rest.discard(int(ids[0]))
    return frozenset(rest)


def _cut(
    model: onnx.ModelProto, found: Channels, gone: Ids
) -> tuple[onnx.ModelProto, dict[str, NDArray[np.int64]]]:
    """Take groups out; also return where the elements of each cut parameter were."""
    own = onnx.ModelProto()
    own.CopyFrom(model)
    tensors = {t.name: t for t in own.graph.initializer}
    kept = {(s.parameter, s.axis): ~np.isin(s.ids, gone) for s in found.slices}
    positions: dict[str, NDArray[np.int64]] = {}
    for (name, axis), rest in kept.items():
        if not rest.all():
            shape = tuple(tensors[name].dims)
            at = positions.setdefault(name, np.arange(np.prod(shape), dtype=np.int64).reshape(shape))
            positions[name] = np.compress(rest, at, axis=axis)
    for name, taken in positions.items():
        values = onnx.numpy_helper.to_array(tensors[name]).reshape(-1)[taken]
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(values, name))
    _restate(own, found, gone)
    free_batch(own)
    return own, positions


def _restate(model: onnx.ModelProto, found: Channels, gone: Ids) -> None:
    """Correct what nodes state about channel counts: groups of depthwise convolutions, pads, flattened widths."""
    constants = {n.output[0]: n for n in model.graph.node if n.op_type == "Constant"}
    arrays = {name: onnx.numpy_helper.to_array(n.attribute[0].t) for name, n in constants.items()}
    weights = {t.name: t.dims for t in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "Conv":
            for attribute in node.attribute:
                depthwise = weights.get(node.input[1], (0, 0))[1] == 1
                if attribute.name == "group" and attribute.i > 1 and depthwise:
                    attribute.i = int(np.count_nonzero(~np.isin(found.of[node.input[0]], gone)))
        elif node.op_type == "Pad" and node.output[0] in found.of:
            _restate_pad(model, node, arrays, ~np.isin(found.of[node.output[0]], gone))
        elif node.op_type == "Reshape" and np.isin(found.of.get(node.output[0], gone[:0]), gone).any():
            node.op_type = "Flatten"
            del node.input[1:], node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("axis", 1))
    read = {name for node in model.graph.node for name in node.input}
    for name, constant in constants.items():
        if name not in read:
            model.graph.node.remove(constant)


def _restate_pad(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    arrays: Mapping[str, NDArray[np.int64]],
    rest: NDArray[np.bool_],
) -> None:
    before, after = padded_channels(node, arrays)
    if rest.all() or before < 0:
        return
    pads = arrays[node.input[1]].copy()
    pads[1], pads[len(pads) // 2 + 1] = rest[:before].sum(), rest[len(rest) - after :].sum()
    name = f"{node.name}.pads"
    tensor = onnx.numpy_helper.from_array(pads)
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [name], name=name, value=tensor))
    node.input[1] = name
