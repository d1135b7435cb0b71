"""An ONNX classifier as a torch module, so that every measure of a torch network is taken of the file that ships.

Forward and backward run in ONNX Runtime. Of a quantized model the forward pass is the quantized model's own, integer
kernels included, and the backward pass the straight-through one of its explain graphs.
"""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from clearweight.exporter.explain import build
from clearweight.exporter.explain.classifier import COTANGENT
from clearweight.exporter.graph import session


class OnnxModule(nn.Module):
    """Run a classifier's ONNX file as a module without parameters.

    Parameters
    ----------
    model : self-contained, one float32 input [N, ...], logits [N, C]; every operator has a gradient
    """

    def __init__(self, model: onnx.ModelProto, *, threads: int = 1) -> None:
        super().__init__()
        self._forward_graph = session(model, threads=threads)
        self._backward_graph = session(build(model, "gradient", contrast=True).model, threads=threads)
        self._input = self._forward_graph.get_inputs()[0].name

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of float32 inputs, differentiable with respect to them."""
        logits: Tensor = _Run.apply(x, self)  # type: ignore[no-untyped-call]  # torch has no types here
        return logits

    def __deepcopy__(self, _memo: dict[int, Any]) -> "OnnxModule":
        """Return itself: there is nothing in it that a copy could change."""
        return self

    def logits(self, x: Tensor) -> Tensor:
        """Run the model."""
        return _run(self._forward_graph, {self._input: x})

    def pulled_back(self, x: Tensor, cotangent: Tensor) -> Tensor:
        """Return the gradient of ``sum(cotangent * logits)`` with respect to the inputs."""
        return _run(self._backward_graph, {self._input: x, COTANGENT: cotangent})


class _Run(torch.autograd.Function):
    """One pass through the file."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: OnnxModule) -> Tensor:
        ctx.save_for_backward(x)
        ctx.module = module
        return module.logits(x)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.module.pulled_back(x, cotangent), None


def _run(running: ort.InferenceSession, feed: dict[str, Tensor]) -> Tensor:
    arrays = {name: np.ascontiguousarray(value.detach().numpy()) for name, value in feed.items()}
    return torch.from_numpy(running.run([running.get_outputs()[0].name], arrays)[0])
