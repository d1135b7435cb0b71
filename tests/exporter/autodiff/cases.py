"""One case per use of an operator: what the gradient checks are run on.

``CASES`` keep their inputs away from kinks, so that central differences mean something; ``SPECIAL_POINTS`` sit on the
kinks, where only a convention says what the derivative is, and torch's is the one we follow. Here are convolution,
products, pooling and shapes; the other families have modules of their own.
"""

from itertools import product
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tests.exporter.autodiff.activation_cases import ACTIVATION_CASES, ACTIVATION_KINKS
from tests.exporter.autodiff.arithmetic_cases import ARITHMETIC_CASES, TIES
from tests.exporter.autodiff.array_cases import ARRAY_CASES
from tests.exporter.autodiff.attention_cases import ATTENTION_CASES
from tests.exporter.autodiff.case import (
    ANY,
    Case,
    away_from,
    away_from_one,
    away_from_zero,
    distinct,
    few_levels,
    ints,
    normal,
    positive,
)
from tests.exporter.autodiff.reduction_cases import REDUCTION_CASES
from tests.exporter.autodiff.version_cases import other_versions

# Convolution -------------------------------------------------------------------------------------------


def torch_conv(attrs):
    kernels = {1: functional.conv1d, 2: functional.conv2d}

    def run(x, w, b=None):
        depth = x.ndim - 2
        pads = attrs.get("pads", [0] * (2 * depth))
        border = [p for axis in reversed(range(depth)) for p in (pads[axis], pads[depth + axis])]
        x = functional.pad(x, border)
        return kernels[depth](
            x,
            w,
            b,
            stride=attrs.get("strides", 1),
            dilation=attrs.get("dilations", 1),
            groups=attrs.get("group", 1),
        )

    return run


def conv(shape, weight, bias=True, **attrs):
    shapes = (shape, (weight[0],)) if bias else (shape,)
    return Case("Conv", shapes, attrs, oracle=torch_conv(attrs), weights={1: weight}, tol=1e-6)


CONV_2D = [
    conv(
        (2, 4, size, size + 1),
        (8, 4 // group, 3, 2),
        group=group,
        dilations=[dilation, dilation],
        strides=[stride, stride],
        pads=pads,
    )
    for group, dilation, stride, pads, size in product(
        (1, 2, 4), (1, 2), (1, 2, 3), ([0, 0, 0, 0], [1, 1, 1, 1], [0, 2, 1, 1]), (7, 8)
    )
]
CONV_1D = [
    conv((3, 4, size), (6, 4 // group, 3), strides=[stride], dilations=[dilation], group=group, pads=[1, 2])
    for group, dilation, stride, size in product((1, 2), (1, 2), (1, 2), (9, 10))
]
CONV_EXTRA = [
    conv((2, 16, 5, 6), (16, 16, 3, 3), pads=[1, 1, 1, 1]),  # flipped: both channels fill blocks
    conv((2, 16, 5, 6), (32, 16, 3, 2), pads=[2, 0, 1, 1]),  # flipped, asymmetric
    conv((2, 6, 5, 5), (6, 1, 3, 3), group=6, pads=[1, 1, 1, 1], bias=False),  # depthwise, flipped
    conv((2, 6, 7), (6, 1, 3), group=6, dilations=[2]),  # depthwise in one dimension
    conv((2, 3, 5, 5), (4, 3, 1, 1), bias=False),  # pointwise
    conv((2, 3, 5, 5), (4, 3, 1, 1), strides=[2, 2]),
    conv((2, 16, 4, 4), (16, 16, 1, 3), pads=[1, 0, 1, 0]),  # padding beyond the kernel's reach
    conv((2, 2, 6, 6), (3, 2, 5, 5), strides=[3, 3], pads=[2, 2, 2, 2]),
    # Depthwise with a stride: one convolution for each phase where every phase has the same size and taps of its own.
    conv((2, 3, 8, 6), (3, 1, 3, 3), group=3, strides=[2, 2], pads=[1, 1, 1, 1]),
    conv((2, 3, 6, 8), (3, 1, 5, 5), group=3, strides=[2, 2], pads=[2, 2, 2, 2], bias=False),
    conv((2, 3, 6, 4), (3, 1, 3, 2), group=3, strides=[2, 1], pads=[0, 1, 1, 0]),
    conv((2, 3, 6, 9), (3, 1, 4, 3), group=3, strides=[2, 3], pads=[1, 0, 1, 0]),
    conv((2, 3, 7, 8), (3, 1, 3, 3), group=3, strides=[2, 2], pads=[1, 1, 1, 1]),  # phases of two sizes
    conv((2, 3, 6, 6), (3, 1, 1, 1), group=3, strides=[2, 2]),  # phases that no tap reaches
    conv((2, 3, 8, 8), (3, 1, 3, 3), group=3, strides=[2, 2], dilations=[2, 2], pads=[2, 2, 2, 2]),
    conv((2, 3, 8, 8), (3, 1, 3, 3), group=3, strides=[2, 2]),  # the last row is never reached
]


def same(shape, weight, side, **attrs):
    """``auto_pad``: torch knows only symmetric sizes, so no torch oracle here."""
    return Case("Conv", (shape,), {"auto_pad": side, **attrs}, weights={1: weight}, tol=1e-6)


CONV_AUTO_PAD = [
    same((2, 3, 7, 8), (4, 3, 2, 3), side, strides=strides)
    for side, strides in product(("SAME_UPPER", "SAME_LOWER", "VALID"), ([1, 1], [2, 3]))
]


def torch_conv_transpose(attrs):
    kernels = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d}

    def run(x, w, b=None):
        depth = x.ndim - 2
        pads = attrs.get("pads", [0] * (2 * depth))
        y = kernels[depth](
            x,
            w,
            b,
            stride=attrs.get("strides", 1),
            dilation=attrs.get("dilations", 1),
            groups=attrs.get("group", 1),
            output_padding=attrs.get("output_padding", 0),
        )
        cut = (slice(p, y.shape[2 + axis] - pads[depth + axis]) for axis, p in enumerate(pads[:depth]))
        return y[(slice(None), slice(None), *cut)]

    return run


def conv_transpose(shape, weight, bias=True, **attrs):
    channels = weight[1] * attrs.get("group", 1)
    shapes = (shape, (channels,)) if bias else (shape,)
    oracle = None if "auto_pad" in attrs else torch_conv_transpose(attrs)
    return Case("ConvTranspose", shapes, attrs, oracle=oracle, weights={1: weight}, tol=1e-6)


CONV_TRANSPOSE = [
    conv_transpose(
        (2, 4, 5, 4),
        (4, 3, 3, 2),
        group=group,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=extra,
    )
    for group, (strides, extra), dilations, pads in product(
        (1, 2),
        (([1, 1], [0, 0]), ([2, 3], [0, 0]), ([2, 3], [1, 2])),
        ([1, 1], [2, 1]),
        ([0, 0, 0, 0], [1, 0, 0, 1]),
    )
] + [
    conv_transpose((2, 3, 5), (3, 2, 3), strides=[2], pads=[1, 1], output_padding=[1], bias=False),
    conv_transpose((2, 3, 5, 5), (3, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER", bias=False),
    conv_transpose((2, 3, 5, 5), (3, 2, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER", bias=False),
]

# Linear ------------------------------------------------------------------------------------------------


def torch_gemm(attrs):
    def run(a, b, c=None):
        a = a.T if attrs.get("transA") else a
        b = b.T if attrs.get("transB") else b
        y = attrs.get("alpha", 1.0) * (a @ b)
        return y if c is None else y + attrs.get("beta", 1.0) * c

    return run


def gemm(trans_a, trans_b, c, **scales):
    attrs = {"transA": trans_a, "transB": trans_b, **scales}
    shapes = ((4, 3) if trans_a else (3, 4), (5, 4) if trans_b else (4, 5), *(() if c is None else (c,)))
    return Case("Gemm", shapes, attrs, oracle=torch_gemm(attrs), free=((0, 1 if trans_a else 0),))


GEMM = [
    gemm(trans_a, trans_b, c, **scales)
    for trans_a, trans_b, c, scales in product(
        (0, 1), (0, 1), (None, (5,), (3, 1), (3, 5)), ({}, {"alpha": 0.5, "beta": -2.0})
    )
]

MATMUL = [
    Case("MatMul", shapes, oracle=torch.matmul, free=free)
    for shapes, free in (
        (((3, 4), (4, 5)), ((0, 0),)),
        (((2, 3, 4), (4, 5)), ((0, 0),)),
        (((2, 3, 4), (2, 4, 5)), ((0, 0), (1, 0))),
        (((2, 1, 3, 4), (6, 4, 5)), ((0, 0),)),
        (((3, 4), (2, 4, 5)), ()),
        (((4,), (4, 5)), ()),
        (((3, 4), (4,)), ((0, 0),)),
        (((2, 3, 4), (4,)), ((0, 0),)),
        (((4,), (2, 4, 5)), ()),
        (((4,), (4,)), ()),
    )
]

# Elementwise -------------------------------------------------------------------------------------------

BROADCASTS = [
    (((2, 3, 4), (2, 3, 4)), ((0, 0), (1, 0))),
    (((2, 3, 4), (4,)), ((0, 0),)),
    (((2, 3, 4), (3, 1)), ((0, 0),)),
    (((2, 3, 4), ()), ((0, 0),)),
    (((3, 1), (2, 3, 4)), ((1, 0),)),
    (((2, 1, 4), (1, 3, 1)), ((0, 0),)),
    (((2, 3), (2, 1)), ((0, 0), (1, 0))),
    (((2, 3), (1, 3)), ((0, 0), (1, 1))),  # an open axis that meets a fixed one: read at run time
]
BINARY = [
    Case(op, shapes, oracle=function, sampler=sampler, free=free)
    for (op, function, sampler), (shapes, free) in product(
        (
            ("Add", torch.add, normal),
            ("Sub", torch.sub, normal),
            ("Mul", torch.mul, normal),
            ("Div", torch.div, away_from_zero),
        ),
        BROADCASTS,
    )
]
ELEMENTWISE = [
    Case("Relu", (ANY,), sampler=away_from_zero, oracle=torch.relu),
    Case("LeakyRelu", (ANY,), sampler=away_from_zero, oracle=functional.leaky_relu),
    Case("LeakyRelu", (ANY,), {"alpha": 0.3}, away_from_zero, oracle=lambda x: functional.leaky_relu(x, 0.3)),
    Case("Clip", (ANY,), {}, away_from_one, oracle=torch.clone),
    Case(
        "Clip",
        (ANY,),
        {},
        away_from(-0.7, 1.3),
        oracle=lambda x: x.clamp(-0.7, 1.3),
        settings={1: -0.7, 2: 1.3},
        tol=1e-6,
    ),
    Case("Clip", (ANY,), {}, away_from_one, oracle=lambda x: x.clamp(-1, 1), settings={1: -1.0, 2: 1.0}),
    Case("Clip", (ANY,), {}, away_from_one, oracle=lambda x: x.clamp(min=-1), settings={1: -1.0}),
    Case("Clip", (ANY,), {}, away_from_one, oracle=lambda x: x.clamp(max=1), settings={2: 1.0}),
    Case(
        "Clip", (ANY,), {}, away_from_one, oracle=lambda x: x.clamp(1, -1), settings={1: 1.0, 2: -1.0}
    ),  # empty range
    Case("Sigmoid", (ANY,), oracle=torch.sigmoid),
    Case("Tanh", (ANY,), oracle=torch.tanh),
    Case("Identity", (ANY,), oracle=torch.clone),
    Case("Dropout", (ANY,), oracle=torch.clone),
    Case("Dropout", (ANY,), oracle=torch.clone, settings={1: 0.3}),
    Case("Cast", (ANY,), {"to": 1}, oracle=torch.clone),
]
NORMALIZATION = [
    Case("Softmax", (ANY,), {"axis": axis}, oracle=lambda x, axis=axis: x.softmax(axis))
    for axis in (-1, 1, 0)
] + [
    Case("Softmax", (ANY,), oracle=lambda x: x.softmax(-1)),
    *(
        Case(
            "BatchNormalization",
            (shape, (3,), (3,)),
            {"epsilon": 1e-3},
            oracle=lambda x, s, b, m, v: functional.batch_norm(x, m, v, s, b, eps=1e-3),
            weights={3: (3,), 4: (3,)},
            sampler=positive,
        )
        for shape in ((2, 3), (2, 3, 4), (2, 3, 4, 5))
    ),
]

# Pooling -----------------------------------------------------------------------------------------------


def torch_max_pool(kernel, **given):
    pool = {1: functional.max_pool1d, 2: functional.max_pool2d}[len(kernel)]
    return lambda x: pool(x, kernel, **given)


def max_pool(shape, kernel, strides=None, pad=0, dilations=None, ceil=0, pads=None):
    depth = len(kernel)
    attrs = {
        "kernel_shape": list(kernel),
        "strides": list(strides or kernel),
        "pads": pads or [pad] * (2 * depth),
        "dilations": list(dilations or [1] * depth),
        "ceil_mode": ceil,
    }
    run = torch_max_pool(
        kernel, stride=attrs["strides"], padding=pad, dilation=attrs["dilations"], ceil_mode=bool(ceil)
    )
    return Case("MaxPool", (shape,), attrs, distinct, oracle=run if pads is None else None, tol=1e-6)


MAX_POOL = [
    max_pool((2, 3, 6, 8), (2, 2)),  # tiles the input: unpooling
    max_pool((2, 3, 6, 9), (2, 3)),
    max_pool((2, 20, 24, 24), (2, 2)),  # many elements: first match
    max_pool((1, 8, 24, 48), (3, 2)),
    max_pool((2, 4, 2100), (3,)),
    max_pool((2, 3, 8), (2,)),
    max_pool((2, 3, 7, 7), (2, 2)),  # leaves a row over
    max_pool((2, 3, 7, 8), (3, 3), (2, 2), pad=1),  # overlapping, padded
    max_pool((2, 3, 7, 8), (3, 3), (1, 1)),
    max_pool((2, 3, 7, 7), (2, 2), (3, 3)),  # gaps
    max_pool((2, 3, 9), (3,), (2,), pad=1),
    max_pool((2, 3, 9, 9), (2, 2), (2, 2), dilations=(2, 2)),
    max_pool((2, 3, 7, 7), (2, 2), ceil=1),
    max_pool((2, 3, 6, 7), (3, 3), (2, 2), pads=[0, 1, 1, 0]),
    Case(
        "MaxPool",
        ((2, 3, 7, 7),),
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        distinct,
    ),
]


def average_pool(shape, kernel, strides, pad=0, count_include_pad=0, ceil=0, pads=None):
    depth = len(kernel)
    attrs = {
        "kernel_shape": list(kernel),
        "strides": list(strides),
        "pads": pads or [pad] * (2 * depth),
        "count_include_pad": count_include_pad,
        "ceil_mode": ceil,
    }
    pool = {1: functional.avg_pool1d, 2: functional.avg_pool2d}[depth]
    oracle = lambda x: pool(
        x, kernel, strides, pad, count_include_pad=bool(count_include_pad), ceil_mode=bool(ceil)
    )
    return Case("AveragePool", (shape,), attrs, oracle=oracle if pads is None else None, tol=1e-6)


AVERAGE_POOL = [
    average_pool((2, 3, 6, 7), kernel, strides, pad, include)
    for (kernel, strides), (pad, include) in product(
        (((2, 2), (2, 2)), ((3, 2), (2, 1)), ((2, 2), (3, 3))), ((0, 0), (1, 0), (1, 1))
    )
] + [
    average_pool((2, 3, 7), (3,), (2,), 1, 0),
    average_pool((2, 3, 7), (2,), (2,), 0, 1),
    average_pool((2, 3, 7, 7), (2, 2), (2, 2), 0, 0, ceil=1),
    average_pool((2, 3, 6, 7), (3, 3), (2, 2), pads=[0, 1, 1, 0]),
]
GLOBAL = [
    Case("GlobalAveragePool", ((2, 3, 4, 5),), oracle=lambda x: x.mean((2, 3), keepdim=True)),
    Case("GlobalAveragePool", ((2, 3, 4),), oracle=lambda x: x.mean(2, keepdim=True)),
]

# Reduction ---------------------------------------------------------------------------------------------


def reduction(op, axes, keepdims, opset=18):
    function = {"ReduceSum": torch.sum, "ReduceMean": torch.mean}[op]
    oracle = lambda x: function(x, dim=axes or (0, 1, 2), keepdim=bool(keepdims))
    attrs: dict[str, Any] = {"keepdims": keepdims}
    settings: dict[int, Any] = {}
    if axes is not None and op == "ReduceMean" and opset < 18:
        attrs["axes"] = list(axes)
    elif axes is not None:
        settings[1] = np.array(axes, np.int64)
    return Case(op, (ANY,), attrs, oracle=oracle, settings=settings, opset=opset)


REDUCTION = [
    reduction(op, axes, keepdims, opset)
    for (op, opset), axes, keepdims in product(
        (("ReduceSum", 18), ("ReduceMean", 18), ("ReduceMean", 17)),
        (None, (1,), (-1,), (1, 2), (0, 2)),
        (0, 1),
    )
] + [Case(op, (ANY,), {"noop_with_empty_axes": 1}, oracle=torch.clone) for op in ("ReduceSum", "ReduceMean")]

# Shape -------------------------------------------------------------------------------------------------


def slices(shape, starts, ends, axes=None, steps=None, torch_index=None, **given):
    settings = {1: ints(*starts), 2: ints(*ends)}
    if axes is not None:
        settings[3] = ints(*axes)
    if steps is not None:
        settings[4] = ints(*steps)
    oracle = None if torch_index is None else lambda x: x[torch_index]
    return Case("Slice", (shape,), settings=settings, oracle=oracle, **given)


ALL = slice(None)
BIG = 2**31 - 1
SLICE = [
    slices((2, 5, 6), (1,), (4,), (1,), torch_index=(ALL, slice(1, 4))),
    slices((2, 5, 6), (1, 0), (-1, 4), (1, 2), torch_index=(ALL, slice(1, -1), slice(0, 4))),
    slices(
        (2, 5, 6), (0, 0), (BIG, BIG), (1, 2), (2, 2), torch_index=(ALL, slice(0, None, 2), slice(0, None, 2))
    ),
    slices(
        (2, 5, 6), (1, 1), (BIG, BIG), (1, 2), (2, 3), torch_index=(ALL, slice(1, None, 2), slice(1, None, 3))
    ),
    slices((2, 5, 7), (2,), (6,), (-1,), (2,), torch_index=(ALL, ALL, slice(2, 6, 2))),
    slices((2, 5, 6), (-1,), (-BIG,), (2,), (-1,)),
    slices((2, 5, 6), (4, 5), (0, -BIG), (1, 2), (-2, -3)),
    slices((2, 5, 6), (0, 1, 2), (BIG, 3, BIG)),
    slices((4, 5), (1,), (BIG,), (0,), torch_index=(slice(1, None),)),  # the open axis itself
    slices((4, 5), (0,), (-1,), (0,), torch_index=(slice(0, -1),)),
]


def pads(shape, widths, mode="constant", axes=None, value=None, oracle=None, opset=18):
    settings: dict[int, Any] = {1: ints(*widths)}
    if value is not None:
        settings[2] = float(value)
    if axes is not None:
        settings[3] = ints(*axes)
    return Case("Pad", (shape,), {"mode": mode}, settings=settings, oracle=oracle, opset=opset)


PAD = [
    pads((2, 3, 4), (0, 1, 2, 0, 0, 1), oracle=lambda x: functional.pad(x, (2, 1, 1, 0))),
    pads(
        (2, 3, 4), (0, 1, 2, 0, 0, 1), value=0.7, oracle=lambda x: functional.pad(x, (2, 1, 1, 0), value=0.7)
    ),
    pads((2, 3, 4), (0, 1, 2, 0, 0, 1), opset=17),
    pads((2, 3, 4), (1, 2), axes=(-1,), oracle=lambda x: functional.pad(x, (1, 2))),
    pads(
        (2, 3, 4, 5),
        (0, 0, 2, 1, 0, 0, 1, 3),
        "reflect",
        oracle=lambda x: functional.pad(x, (1, 3, 2, 1), "reflect"),
    ),
    pads(
        (2, 3, 4, 5),
        (0, 0, 2, 1, 0, 0, 1, 7),
        "edge",
        oracle=lambda x: functional.pad(x, (1, 7, 2, 1), "replicate"),
    ),
    pads((2, 3, 5), (2, 3), "edge", axes=(2,), oracle=lambda x: functional.pad(x, (2, 3), "replicate")),
    pads(
        (2, 3, 5),
        (0, 0, 2, 0, 0, 3),
        "reflect",
        opset=17,
        oracle=lambda x: functional.pad(x, (2, 3), "reflect"),
    ),
]
SHAPE = [
    Case("Flatten", ((2, 3, 4),), oracle=lambda x: x.flatten(1)),
    Case("Flatten", ((2, 3, 4),), {"axis": 2}, oracle=lambda x: x.reshape(6, 4)),
    Case("Reshape", ((2, 3, 4),), settings={1: ints(-1, 12)}, oracle=lambda x: x.reshape(-1, 12)),
    Case("Reshape", ((2, 3, 4),), settings={1: ints(0, 4, 3)}, oracle=lambda x: x.reshape(-1, 4, 3)),
    Case("Reshape", ((2, 3, 4),), settings={1: ints(-1)}, oracle=lambda x: x.reshape(-1)),
    Case("Reshape", ((2, 3, 4),), settings={1: ints(4, -1)}, oracle=lambda x: x.reshape(4, -1), free=()),
    Case("Transpose", ((2, 3, 4),), {"perm": [1, 2, 0]}, oracle=lambda x: x.permute(1, 2, 0)),
    Case("Transpose", ((2, 3, 4),), oracle=lambda x: x.permute(2, 1, 0)),
    Case("Squeeze", ((2, 1, 4, 1),), settings={1: ints(1, -1)}, oracle=lambda x: x.squeeze(1).squeeze(-1)),
    Case("Unsqueeze", ((2, 3),), settings={1: ints(0, 3)}, oracle=lambda x: x[None, :, :, None]),
    Case(
        "Concat",
        ((2, 3), (2, 1), (2, 4)),
        {"axis": 1},
        oracle=lambda *x: torch.cat(x, 1),
        free=((0, 0), (1, 0), (2, 0)),
    ),
    Case(
        "Concat",
        ((2, 3, 4), (2, 3, 2)),
        {"axis": -1},
        oracle=lambda *x: torch.cat(x, -1),
        free=((0, 0), (1, 0)),
    ),
]

FAMILIES = [
    *CONV_2D,
    *CONV_1D,
    *CONV_EXTRA,
    *CONV_AUTO_PAD,
    *CONV_TRANSPOSE,
    *GEMM,
    *MATMUL,
    *BINARY,
    *ELEMENTWISE,
    *NORMALIZATION,
    *MAX_POOL,
    *AVERAGE_POOL,
    *GLOBAL,
    *REDUCTION,
    *SLICE,
    *PAD,
    *SHAPE,
    *ACTIVATION_CASES,
    *ARITHMETIC_CASES,
    *ARRAY_CASES,
    *ATTENTION_CASES,
    *REDUCTION_CASES,
]
CASES = [*FAMILIES, *other_versions(FAMILIES)]

# On the kinks: zeros at ReLU, ties in pools, inputs exactly on a bound, saturation.
SPECIAL_POINTS = [
    Case("Relu", ((2, 30),), sampler=few_levels, oracle=torch.relu),
    Case("LeakyRelu", ((2, 30),), sampler=few_levels, oracle=functional.leaky_relu),
    *(
        Case(
            "Clip",
            ((2, 30),),
            sampler=few_levels,
            oracle=lambda x, low=low, high=high: functional.hardtanh(x, low, high),
            settings={1: low, 2: high},
        )
        for low, high in (
            (-1.0, 1.0),
            (0.0, 1.0),
            (-1.0, 0.1),
            (-1.0, 1e7),
        )  # the last ones have no exact middle
    ),
    Case("Clip", ((2, 30),), sampler=few_levels, oracle=torch.relu, settings={1: 0.0}),
    Case("Clip", ((2, 30),), sampler=few_levels, oracle=lambda x: -torch.relu(-x), settings={2: 0.0}),
    Case("Clip", ((2, 30),), sampler=few_levels, oracle=lambda x: 0 * x, settings={1: 0.0, 2: 0.0}),
    Case("Sigmoid", ((2, 30),), sampler=lambda r, s: 40 * few_levels(r, s), oracle=torch.sigmoid),
    Case("Tanh", ((2, 30),), sampler=lambda r, s: 40 * few_levels(r, s), oracle=torch.tanh),
    Case("Softmax", ((2, 30),), sampler=lambda r, s: 40 * few_levels(r, s), oracle=lambda x: x.softmax(-1)),
    *(
        Case(case.op, case.shapes, case.attrs, sampler, oracle=case.oracle)
        for case in MAX_POOL
        if case.oracle is not None
        for sampler in (few_levels, lambda _, shape: np.zeros(shape))
    ),
    *ACTIVATION_KINKS,
    *TIES,
]
