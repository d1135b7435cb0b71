"""Input x gradient as torch itself can export it: traced through autograd, then translated to ONNX.

The peer of ``explain_latency``. ``torch.onnx`` cannot export autograd directly; tracing with ``make_fx`` first works
once the backward operator of convolution, which has no ONNX translation, is decomposed into one that has.
"""

from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten


def convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    _bias_sizes: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    _transposed: bool,
    _output_padding: list[int],
    groups: int,
    _mask: list[bool],
) -> tuple[Tensor, None, None]:
    """Return the gradient to the input alone, as a transposed convolution."""
    extra = [
        i - ((o - 1) * s + d * (k - 1) + 1 - 2 * p)
        for i, o, s, d, k, p in zip(
            x.shape[2:], grad.shape[2:], stride, dilation, weight.shape[2:], padding, strict=True
        )
    ]
    dx = aten.convolution(grad, weight, None, stride, padding, dilation, True, extra, groups)
    return dx, None, None


def export(module: nn.Module, example: Tensor) -> onnx.ModelProto:
    """Export ``x -> (x * dF_c/dx, logits)``, c the arg-max of the run, for the batch of ``example``."""

    def explain(x: Tensor) -> tuple[Tensor, Tensor]:
        def logit(value: Tensor) -> tuple[Tensor, Tensor]:
            logits = module(value)
            chosen = logits.argmax(dim=1, keepdim=True)
            return logits.gather(1, chosen).sum(), logits

        gradient, logits = torch.func.grad(logit, has_aux=True)(x)
        return x * gradient, logits

    table = dict(core_aten_decompositions())
    table[aten.convolution_backward.default] = convolution_backward
    traced = make_fx(explain, decomposition_table=table)(example)
    program = torch.onnx.export(traced, (example,), dynamo=True, opset_version=18, verbose=False)
    if program is None:
        raise RuntimeError("torch.onnx returned no program.")
    proto: onnx.ModelProto = program.model_proto
    return proto
