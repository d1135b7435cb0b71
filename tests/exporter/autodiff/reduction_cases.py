"""Cases of reductions beyond sum and mean, and of layer, group, instance and RMS norm."""

from itertools import product
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tests.exporter.autodiff.case import ANY, Case, away_from_zero, distinct, ints, normal, positive


def reduction(op, oracle, sampler, axes, keepdims, opset=18):
    attrs: dict[str, Any] = {"keepdims": keepdims}
    settings = {}
    if axes is not None and opset < 18:
        attrs["axes"] = list(axes)
    elif axes is not None:
        settings[1] = ints(*axes)
    return Case(
        op,
        (ANY,),
        attrs,
        sampler,
        oracle=lambda x: oracle(x, axes or (0, 1, 2), bool(keepdims)),
        settings=settings,
        opset=opset,
    )


def norm_of(order):
    return lambda x, axes, keepdims: torch.linalg.vector_norm(x, order, axes, keepdims)


def product_of(x, axes, keepdims):
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdims)
    return x


def some_zeros(rng, shape):
    """No zero in some groups, one or two in others."""
    return np.where(rng.random(shape) < 0.15, 0.0, away_from_zero(rng, shape))


FUNCTIONS = {
    "ReduceProd": (product_of, some_zeros),
    "ReduceMax": (torch.amax, distinct),
    "ReduceMin": (torch.amin, distinct),
    "ReduceL1": (norm_of(1), away_from_zero),
    "ReduceL2": (norm_of(2), normal),
    "ReduceSumSquare": (lambda x, axes, keepdims: (x * x).sum(axes, keepdims), normal),
    "ReduceLogSum": (lambda x, axes, keepdims: x.sum(axes, keepdims).log(), positive),
    "ReduceLogSumExp": (torch.logsumexp, normal),
}
REDUCTIONS = [
    reduction(op, *function, axes, keepdims, opset)
    for (op, function), (axes, keepdims), opset in product(
        FUNCTIONS.items(), ((None, 1), ((1,), 0), ((-1, 1), 1)), (17, 18)
    )
]
EXTREMES = [
    Case("ReduceMax", (ANY,), {"noop_with_empty_axes": 1}, distinct, oracle=torch.clone),
    Case("GlobalMaxPool", ((2, 3, 4, 5),), sampler=distinct, oracle=lambda x: x.amax((2, 3), keepdim=True)),
]


def layer_norm(shape, axis, bias=True, **attrs):
    size = shape[axis:] if axis < 0 else shape[axis % len(shape) :]
    shapes = (shape, size, *((size,) if bias else ()))
    epsilon = attrs.get("epsilon", 1e-5)
    return Case(
        "LayerNormalization",
        shapes,
        {"axis": axis, **attrs},
        oracle=lambda x, s, b=None: functional.layer_norm(x, size, s, b, eps=epsilon),
        tol=1e-6,
    )


def rms_norm(shape, axis, **attrs):
    size = shape[axis % len(shape) :]
    epsilon = attrs.get("epsilon", 1e-5)
    return Case(
        "RMSNormalization",
        (shape, size),
        {"axis": axis, **attrs},
        oracle=lambda x, s: functional.rms_norm(x, size, s, eps=epsilon),
        opset=23,
        tol=1e-6,
    )


def instance_norm(shape, **attrs):
    epsilon = attrs.get("epsilon", 1e-5)
    return Case(
        "InstanceNormalization",
        (shape, shape[1:2], shape[1:2]),
        attrs,
        oracle=lambda x, s, b: functional.instance_norm(x, weight=s, bias=b, eps=epsilon),
        tol=1e-6,
    )


def group_norm(shape, groups, opset, **attrs):
    epsilon = attrs.get("epsilon", 1e-5)
    size = groups if opset < 21 else shape[1]

    def run(x, s, b):
        per_channel = shape[1] // size
        s, b = s.repeat_interleave(per_channel), b.repeat_interleave(per_channel)
        return functional.group_norm(x, groups, s, b, eps=epsilon)

    return Case(
        "GroupNormalization",
        (shape,),
        {"num_groups": groups, **attrs},
        oracle=run,
        weights={1: (size,), 2: (size,)},
        opset=opset,
        tol=1e-6,
    )


def local_response(shape, size, **attrs):
    given = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0} | attrs

    def run(x):
        before = (size - 1) // 2
        squares = x**2
        total = torch.zeros_like(x)
        for channel in range(x.shape[1]):
            window = slice(max(0, channel - before), channel - before + size)
            total[:, channel] = squares[:, window].sum(1)
        return x / (given["bias"] + given["alpha"] / size * total) ** given["beta"]

    return Case("LRN", (shape,), {"size": size, **attrs}, oracle=run, tol=1e-6)


NORMS = [
    local_response((2, 7, 4, 5), 5, alpha=0.5),
    local_response((2, 6, 3, 3), 4, alpha=2.0, beta=0.5, bias=2.0),  # an even window leans forward
    local_response((2, 3, 2, 4), 1, alpha=1.0),
    local_response((2, 3, 4, 4), 5),  # wider than there are channels
    layer_norm((2, 3, 8), -1),
    layer_norm((2, 3, 8), -1, bias=False, epsilon=0.1),
    layer_norm((2, 3, 4, 5), -2),
    layer_norm((2, 3, 4, 5), 1),
    rms_norm((2, 3, 8), -1),
    rms_norm((2, 3, 4, 5), 2, epsilon=0.1),
    instance_norm((2, 3, 8)),
    instance_norm((2, 3, 4, 5), epsilon=0.1),
    *(
        group_norm(shape, groups, opset, epsilon=1e-3)
        for shape, groups in (((2, 6, 4, 5), 2), ((2, 6, 7), 3), ((2, 4, 5), 4), ((2, 4, 5), 1))
        for opset in (18, 21, 26)
    ),
]

REDUCTION_CASES = [*REDUCTIONS, *EXTREMES, *NORMS]
