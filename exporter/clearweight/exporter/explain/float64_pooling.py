"""Max pooling in double precision, one comparison of whole arrays per kernel place.

onnx's reference walks in Python over every window of every channel, 80 of the 120 seconds that verifying a network of
VGG's shape at an eighth of its width took; and its Indices are wrong at stride 1 (onnx 1.23).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.ops.op_max_pool import MaxPool as ReferenceMaxPool

from clearweight.exporter.explain.float64_convolution import Array, taps_of


class _MaxPool(ReferenceMaxPool):
    """``y[p] = max over k of x[s p + d k - pad]``, of equal ones the first; padding by name is the reference's."""

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array, ...]:  # type: ignore[override]  # as the evaluator calls it
        if attributes.get("auto_pad") not in {None, "NOTSET"}:
            found: tuple[Array, ...] = self._max_pool(x, **attributes)  # type: ignore[no-untyped-call]  # onnx has no types here
            return found
        kernel = attributes["kernel_shape"]
        axes = len(kernel)
        strides, dilations = (attributes.get(name) or [1] * axes for name in ("strides", "dilations"))
        pads = attributes.get("pads") or [0] * (2 * axes)
        sizes = _sizes(x.shape[2:], kernel, strides, dilations, pads, ceil=bool(attributes.get("ceil_mode")))
        best = np.full((*x.shape[:2], *sizes), -np.inf, x.dtype)
        where = np.zeros(best.shape, np.int64)
        reach = [
            (size - 1) * stride + dilation * (width - 1) + 1
            for size, stride, dilation, width in zip(sizes, strides, dilations, kernel, strict=True)
        ]
        places = _padded(_places(x.shape, attributes.get("storage_order") or 0), reach, pads, 0)
        values = _padded(x, reach, pads, -np.inf)
        for place in np.ndindex(*kernel):
            taps = taps_of(place, sizes, strides, dilations)
            seen = values[taps]
            larger = seen > best
            best[larger] = seen[larger]
            where = np.where(larger, places[taps], where)
        return (best, where) if len(self.output) > 1 else (best,)


_MaxPool.__name__ = "MaxPool"  # the evaluator files an operator under its class's name
POOLING = [_MaxPool]


def _sizes(
    lengths: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    *,
    ceil: bool,
) -> list[int]:
    """Return the output's sizes; with ``ceil`` a window may hang over the end, but must start before it."""
    found = []
    for axis, (length, stride) in enumerate(zip(lengths, strides, strict=True)):
        before, after = pads[axis], pads[len(lengths) + axis]
        span = length + before + after - dilations[axis] * (kernel[axis] - 1) - 1
        size = (-(-span // stride) if ceil else span // stride) + 1
        found.append(size - 1 if ceil and (size - 1) * stride >= length + before else size)
    return found


def _places(shape: Sequence[int], order: int) -> NDArray[np.int64]:
    """Number every element of a tensor, each channel row by row or, with ``order`` 1, column by column."""
    channels, space = shape[:2], shape[2:]
    inside = np.arange(int(np.prod(space)), dtype=np.int64)
    inside = inside.reshape(space[::-1]).T if order else inside.reshape(space)
    first = np.arange(int(np.prod(channels)), dtype=np.int64) * inside.size
    return first.reshape(*channels, *[1] * len(space)) + inside


def _padded(x: Array, reach: Sequence[int], pads: Sequence[int], value: float) -> Array:
    """Pad every axis of space as it says, and behind its end as far as the last window reaches."""
    axes = len(reach)
    behind = [max(pads[axes + axis], reach[axis] - x.shape[2 + axis] - pads[axis]) for axis in range(axes)]
    return np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], behind, strict=True)], constant_values=value)
