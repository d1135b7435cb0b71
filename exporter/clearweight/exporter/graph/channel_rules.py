"""What each operator does with the channels of its operands: the rules of the survey, in one table."""

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.graph.channels import Channels, Flags, Ids, Product, Rule, Survey


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def zero_slices(values: NDArray[Any], axis: int) -> Flags:
    """Tell which indices of an axis hold nothing but zeros."""
    return np.array(~np.any(values != 0, axis=tuple(a for a in range(values.ndim) if a != axis)))


def _bias(s: Survey, node: onnx.NodeProto, ids: Ids) -> Flags | None:
    """Cut the third input with the outputs; return where it is zero, None if it is not a vector of theirs."""
    if len(node.input) < 3 or not node.input[2]:
        return np.ones(len(ids), dtype=bool)
    bias = s.parameters.get(node.input[2])
    if bias is None or bias.shape != (len(ids),):
        return None
    s.slice(node.input[2], 0, ids)
    return zero_slices(bias, 0)


def _convolution(s: Survey, node: onnx.NodeProto) -> bool:
    x, name = node.input[0], node.input[1]
    if x not in s.of or name not in s.parameters:
        return False
    weight, groups = s.parameters[name], int(_attributes(node).get("group", 1))
    heard: Flags
    given, quiet = s.of[x], s.silent[x]
    outputs, taken = weight.shape[:2]
    silent: Flags
    places = prod(s.shapes[node.output[0]][2:]) * prod(weight.shape[2:])
    if groups > 1 and taken == 1:  # depthwise: output k reads input k // multiplier and nothing else
        ids = np.repeat(given, outputs // groups)
        read, heard = s.fresh(1), np.repeat(quiet, outputs // groups)
        s.pin(read)
        silent = zero_slices(weight, 0) | heard
    else:
        read, heard = given.reshape(groups, -1)[0], np.array(quiet.reshape(groups, -1).all(0))
        for other in given.reshape(groups, -1)[1:]:  # every group gives up the same positions
            s.tie(read, other)
        ids = np.tile(s.fresh(outputs // groups), groups)
        s.slice(name, 1, read, heard)
        silent = zero_slices(weight[:, ~heard], 0)
    unbiased = _bias(s, node, ids)
    if unbiased is None:
        return False
    s.slice(name, 0, ids)
    s.products.append(Product(places, ids, read))
    s.hand(node.output[0], ids, silent & unbiased)
    return True


def _matrix(s: Survey, node: onnx.NodeProto) -> bool:
    x, name = node.input[0], node.input[1]
    settings = _attributes(node)
    if x not in s.of or name not in s.parameters or settings.get("transA") or len(s.shapes[x]) != 2:
        return False
    weight = s.parameters[name]
    if weight.ndim != 2:
        return False
    axis = 0 if settings.get("transB") else 1
    ids = s.fresh(weight.shape[axis])
    unbiased = _bias(s, node, ids)
    if unbiased is None:
        return False
    heard = s.silent[x]
    s.slice(name, 1 - axis, s.of[x], heard)
    s.slice(name, axis, ids)
    s.products.append(Product(1, ids, s.of[x]))
    silent = zero_slices(np.compress(~heard, weight, axis=1 - axis), axis) & unbiased
    s.hand(node.output[0], ids, silent)
    return True


def _same(*, zero: bool) -> Rule:
    """Each channel by itself; ``zero``: zeros stay zeros."""

    def rule(s: Survey, node: onnx.NodeProto) -> bool:
        x = node.input[0]
        if x not in s.of or s.shapes[node.output[0]][:2] != s.shapes[x][:2]:
            return False
        s.hand(node.output[0], s.of[x], s.silent[x] & zero)
        return True

    return rule


def _clip(s: Survey, node: onnx.NodeProto) -> bool:
    bounds = [s.constants.get(name) for name in node.input[1:] if name]
    low, high = (*bounds, None, None)[:2]
    return _same(zero=(low is None or float(low) <= 0) and (high is None or float(high) >= 0))(s, node)


def _slope(s: Survey, node: onnx.NodeProto) -> bool:
    return _vector(s, node.input[1], node.input[0]) is not None and _same(zero=True)(s, node)


def _vector(s: Survey, name: str, beside: str) -> Flags | None:
    """Cut a parameter or constant that is broadcast to ``beside``; return where it is zero, or None."""
    values = s.parameters.get(name, s.constants.get(name))
    if values is None:
        return None
    axis = values.ndim - len(s.shapes[beside]) + 1
    count = len(s.of[beside])
    if axis < 0 or values.shape[axis] == 1:
        return np.full(count, not np.any(values))
    if name in s.parameters:
        s.slice(name, axis, s.of[beside])
    else:
        s.pin(s.of[beside])
    return zero_slices(values, axis)


def _elementwise(silent: Callable[[list[Flags]], Flags]) -> Rule:
    """Operands channel by channel; ``silent`` of the result from that of the operands."""

    def rule(s: Survey, node: onnx.NodeProto) -> bool:
        shape = s.shapes[node.output[0]]
        full = [n for n in node.input if n in s.of and s.shapes[n][1:2] == shape[1:2]]
        if not full or any(len(s.shapes[n]) != len(shape) for n in node.input if n in s.of):
            return False
        flags = []
        for name in node.input:
            if name in full:
                s.tie(s.of[full[0]], s.of[name])
                flags.append(s.silent[name])
            elif name in s.of:  # one channel for all
                s.pin(s.of[name])
                flags.append(np.repeat(s.silent[name], shape[1]))
            elif (zeros := _vector(s, name, full[0])) is not None:
                flags.append(zeros)
            else:
                return False
        s.hand(node.output[0], s.of[full[0]], silent(flags))
        return True

    return rule


def _concat(s: Survey, node: onnx.NodeProto) -> bool:
    rank = len(s.shapes[node.output[0]])
    if any(name not in s.of for name in node.input):
        return False
    if _attributes(node)["axis"] % rank != 1:
        return _elementwise(_all)(s, node) if _attributes(node)["axis"] % rank else False
    s.hand(
        node.output[0],
        np.concatenate([s.of[name] for name in node.input]),
        np.concatenate([s.silent[name] for name in node.input]),
    )
    return True


def _spread(s: Survey, node: onnx.NodeProto) -> bool:
    """Flatten, and Reshape to the same rows: each channel becomes the columns of its places."""
    x, shape = node.input[0], s.shapes[node.output[0]]
    if x not in s.of:
        return False
    width, channel_count = prod(s.shapes[x][1:]), len(s.of[x])
    if len(shape) != 2 or shape[1] != width or (len(node.input) > 1 and node.input[1] not in s.constants):
        return False
    s.hand(
        node.output[0],
        np.repeat(s.of[x], width // channel_count),
        np.repeat(s.silent[x], width // channel_count),
    )
    return True


def _pad(s: Survey, node: onnx.NodeProto) -> bool:
    before, after = padded_channels(node, s.constants)
    x = node.input[0]
    if x not in s.of or before < 0 or after < 0:
        return False
    zero = len(node.input) < 3 or not node.input[2] or not np.any(s.constants.get(node.input[2], 1))
    if (before or after) and _attributes(node).get("mode", b"constant") != b"constant":
        return False
    added = np.concatenate([s.fresh(before), s.of[x], s.fresh(after)])
    silent = np.concatenate([np.full(before, zero), s.silent[x] & zero, np.full(after, zero)])
    s.hand(node.output[0], added, silent)
    return True


def padded_channels(node: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """Return how many channels a Pad puts before and behind those it gets; -1 where that cannot be read."""
    pads = constants.get(node.input[1])
    if pads is None or (len(node.input) > 3 and node.input[3]):
        return -1, -1
    rank = len(pads) // 2
    return int(pads[1]), int(pads[rank + 1])


def _along(position: int | None) -> Rule:
    """Operators that name their axes (input ``position``, or ``perm``): channels are theirs to leave alone."""

    def rule(s: Survey, node: onnx.NodeProto) -> bool:
        x = node.input[0]
        if x not in s.of:
            return False
        if position is None:
            alone = list(_attributes(node).get("perm", []))[:2] == [0, 1]
        else:
            name = node.input[position] if len(node.input) > position else ""
            axes = s.constants.get(name)
            rank = len(s.shapes[x]) if node.op_type != "Unsqueeze" else len(s.shapes[node.output[0]])
            alone = axes is not None and all(int(a) % rank > 1 for a in np.atleast_1d(axes))
        return alone and _same(zero=True)(s, node)

    return rule


def _normalization(s: Survey, node: onnx.NodeProto) -> bool:
    values = [s.parameters.get(name) for name in node.input[1:]]
    x = node.input[0]
    if x not in s.of or any(v is None for v in values):
        return False
    scale, shift, mean, _ = (np.asarray(v, dtype=np.float64) for v in values)
    for name in node.input[1:]:
        s.slice(name, 0, s.of[x])
    off = (shift == 0) & ((scale == 0) | (s.silent[x] & (mean == 0)))
    s.hand(node.output[0], s.of[x], off)
    return True


def _all(flags: list[Flags]) -> Flags:
    return np.array(np.logical_and.reduce(flags))


def _any(flags: list[Flags]) -> Flags:
    return np.array(np.logical_or.reduce(flags))


def _first(flags: list[Flags]) -> Flags:
    return flags[0]


_RECTIFIERS = ("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "HardSwish", "Mish", "ThresholdedRelu")
_POOLS = ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
_KEEP_ZERO = (*_RECTIFIERS, *_POOLS, "Identity", "Tanh", "Softsign", "Erf", "Neg", "Abs", "Sqrt", "Round")
_LOSE_ZERO = ("Sigmoid", "HardSigmoid", "Softplus", "Exp", "Cos")

RULES: Mapping[str, Rule] = MappingProxyType(
    {name: _same(zero=True) for name in _KEEP_ZERO}
    | {name: _same(zero=False) for name in _LOSE_ZERO}
    | {
        "Conv": _convolution,
        "Gemm": _matrix,
        "MatMul": _matrix,
        "BatchNormalization": _normalization,
        "Clip": _clip,
        "PRelu": _slope,
        "Add": _elementwise(_all),
        "Sub": _elementwise(_all),
        "Sum": _elementwise(_all),
        "Max": _elementwise(_all),
        "Min": _elementwise(_all),
        "Mul": _elementwise(_any),
        "Div": _elementwise(_first),
        "Concat": _concat,
        "Flatten": _spread,
        "Reshape": _spread,
        "Pad": _pad,
        "Transpose": _along(None),
        "Slice": _along(3),
        "Squeeze": _along(1),
        "Unsqueeze": _along(1),
        "ReduceMean": _along(1),
        "ReduceSum": _along(1),
        "ReduceMax": _along(1),
    }
)


def channels(model: onnx.ModelProto) -> Channels:
    """Survey a canonical model (its shapes are written in it)."""
    return Survey(model).run(model, RULES)
