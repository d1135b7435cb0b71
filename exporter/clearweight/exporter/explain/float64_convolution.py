"""Convolution and its transpose in double precision, one matrix product per kernel place.

onnx's reference is right for both but for groups of a transposed convolution, which crash it, and its transpose takes a
minute for one row of a small image network. Here the definition is summed up place by place of the kernel: as slow
twins go, fast enough to verify networks that people deploy.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.ops.op_conv import Conv as ReferenceConv
from onnx.reference.ops.op_conv_transpose import ConvTranspose as ReferenceConvTranspose

Array = NDArray[Any]


class _Conv(ReferenceConv):
    """``y[m] = sum over c, k of w[m, c, k] x[c, s p + d k - pad]``; padding by name is left to the reference."""

    op_domain = ""

    def _run(self, x: Array, w: Array, b: Array | None = None, **attributes: Any) -> tuple[Array]:  # type: ignore[override]  # as the evaluator calls it
        if attributes.get("auto_pad") not in {None, "NOTSET"}:
            found: tuple[Array] = super()._run(x, w, b, **attributes)  # type: ignore[no-untyped-call]  # onnx has no types here
            return found
        axes, groups = w.ndim - 2, attributes.get("group") or 1
        strides, dilations, pads = _geometry(attributes, axes)
        x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)])
        sizes = [
            (length - dilation * (kernel - 1) - 1) // stride + 1
            for length, kernel, stride, dilation in zip(
                x.shape[2:], w.shape[2:], strides, dilations, strict=True
            )
        ]
        matrices = w.reshape(groups, len(w) // groups, *w.shape[1:])
        y = np.zeros((len(x), groups, len(w) // groups, prod(sizes)), x.dtype)
        for place in np.ndindex(w.shape[2:]):
            seen = x[taps_of(place, sizes, strides, dilations)]
            y += matrices[(..., *place)] @ seen.reshape(len(x), groups, -1, prod(sizes))
        y = y.reshape(len(x), len(w), *sizes)
        return (y if b is None else y + b.reshape(-1, *[1] * axes),)


class _ConvTranspose(ReferenceConvTranspose):
    """``y[m, s p + d k - pad] += w[c, m, k] x[c, p]``; a size by name is left to the reference."""

    op_domain = ""

    def _run(self, x: Array, w: Array, b: Array | None = None, **attributes: Any) -> tuple[Array]:  # type: ignore[override]  # as the evaluator calls it
        if attributes.get("auto_pad") not in {None, "NOTSET"} or attributes.get("output_shape"):
            found: tuple[Array] = super()._run(x, w, b, **attributes)  # type: ignore[no-untyped-call]  # onnx has no types here
            return found
        axes, groups = w.ndim - 2, attributes.get("group") or 1
        strides, dilations, pads = _geometry(attributes, axes)
        further = attributes.get("output_padding") or [0] * axes
        sizes = x.shape[2:]
        whole = [
            stride * (size - 1) + dilation * (kernel - 1) + 1 + more
            for size, kernel, stride, dilation, more in zip(
                sizes, w.shape[2:], strides, dilations, further, strict=True
            )
        ]
        channels = w.shape[1] * groups
        matrices = np.swapaxes(w.reshape(groups, len(w) // groups, *w.shape[1:]), 1, 2)
        rows = x.reshape(len(x), groups, -1, prod(sizes))
        y = np.zeros((len(x), channels, *whole), x.dtype)
        for place in np.ndindex(w.shape[2:]):
            spread = matrices[(..., *place)] @ rows
            y[taps_of(place, sizes, strides, dilations)] += spread.reshape(len(x), channels, *sizes)
        kept = (slice(pads[axis], whole[axis] - pads[axes + axis]) for axis in range(axes))
        y = y[(slice(None), slice(None), *kept)]
        return (y if b is None else y + b.reshape(-1, *[1] * axes),)


# The evaluator files an operator under its class's name.
_Conv.__name__, _ConvTranspose.__name__ = "Conv", "ConvTranspose"
CONVOLUTION = [_Conv, _ConvTranspose]


def _geometry(attributes: dict[str, Any], axes: int) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Return strides, dilations and pads, each with its default."""
    strides, dilations = (attributes.get(name) or [1] * axes for name in ("strides", "dilations"))
    return strides, dilations, attributes.get("pads") or [0] * (2 * axes)


def taps_of(
    place: Sequence[int], sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[slice, ...]:
    """Return where one place of the kernel meets the padded input: all rows and channels, then along each axis."""
    along = (
        slice(dilation * at, dilation * at + (size - 1) * stride + 1, stride)
        for at, size, stride, dilation in zip(place, sizes, strides, dilations, strict=True)
    )
    return (slice(None), slice(None), *along)
