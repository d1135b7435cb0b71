"""Convolutions whose gradient is made of convolutions, so that its own gradient is as fast as any other.

A loss of an input map differentiates a gradient. torch's second derivative of a convolution takes the kernel's part by
a convolution with kernels as large as the image; that is slow, in bfloat16 above all. The gradient of a convolution
by its input is a transposed convolution. Written as one, its derivatives are first derivatives.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
Sizes = tuple[int, ...]


class _Convolution(Function):
    """`torch.convolution` whose gradient by the input is a transposed one."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: tuple[Sizes, Sizes, Sizes, int]
    ) -> Tensor:
        stride, padding, dilation, groups = ctx.how = how
        ctx.save_for_backward(x, weight)
        return torch.convolution(
            x, weight, bias, stride, padding, dilation, False, (0,) * len(stride), groups
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.how
        of_input, *of_parameters = ctx.needs_input_grad[:3]
        own = None
        if of_input:
            rest = tuple(
                x.shape[axis + 2]
                - ((gradient.shape[axis + 2] - 1) * s - 2 * p + d * (weight.shape[axis + 2] - 1) + 1)
                for axis, (s, p, d) in enumerate(zip(stride, padding, dilation, strict=True))
            )
            own = torch.convolution(gradient, weight, None, stride, padding, dilation, True, rest, groups)
        of_weight = of_bias = None
        if any(of_parameters):
            _, of_weight, of_bias = torch.ops.aten.convolution_backward(
                gradient,
                x,
                weight,
                [weight.shape[0]],
                stride,
                padding,
                dilation,
                False,
                (0,) * len(stride),
                groups,
                (False, *of_parameters),
            )
        return own, of_weight, of_bias, None


def _sizes(value: int | Iterable[int], count: int) -> Sizes:
    return (value,) * count if isinstance(value, int) else tuple(value)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Iterable[int] = 1,
    padding: int | Iterable[int] = 0,
    dilation: int | Iterable[int] = 1,
    groups: int = 1,
) -> Tensor:
    count = weight.ndim - 2
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    how = (_sizes(stride, count), _sizes(padding, count), _sizes(dilation, count), groups)
    result: Tensor = _Convolution.apply(x, weight, bias, how)  # type: ignore[no-untyped-call]  # torch's own
    return result


class _Replaced(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: Iterable[type],
        given: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(named or {})
        if function not in _CONVOLUTIONS:
            return function(*given, **named)
        images = given[0] if given else named.get("input")
        padding = given[4] if len(given) > 4 else named.get("padding", 0)
        weight = given[1] if len(given) > 1 else named.get("weight")
        # Padding by name and inputs without a batch are left to torch.
        if isinstance(padding, str) or images is None or weight is None or images.ndim != weight.ndim:
            return function(*given, **named)
        if "input" in named:
            named["x"] = named.pop("input")
        return _convolution(*given, **named)


@contextmanager
def twice_differentiable_convolutions() -> Iterator[None]:
    """Make convolutions inside the block such that the gradient of their input is cheap to differentiate.

    Values and derivatives are torch's own.
    """
    with _Replaced():
        yield
