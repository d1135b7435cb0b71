"""Gradients by phase: the parts woven together, and what follows a strided convolution worked on part by part."""

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter.autodiff import NON_DIFFERENTIABLE, RULES, Emit, Graph, pull_back
from clearweight.exporter.autodiff.emit import Phases
from clearweight.exporter.autodiff.phases import weave
from clearweight.exporter.explain.float64 import Float64Twin
from clearweight.exporter.graph import session, to_onnx
from tests.exporter.autodiff.cases import conv
from tests.exporter.autodiff.vjp import forward_model, sample, vjp_model


@pytest.mark.parametrize("strides", [(2, 2), (2, 3), (3, 1), (1, 2)])
def test_weaving_puts_every_element_to_its_place(strides):
    whole = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    case = conv((2, 3, 6, 6), (3, 3, 1, 1), bias=False)
    graph = Graph(forward_model(case, sample(case)[1]))
    emit = Emit(graph)
    parts = [
        whole[:, :, a :: strides[0], b :: strides[1]] for a in range(strides[0]) for b in range(strides[1])
    ]
    names = tuple(graph.add_constant(part) for part in parts)
    graph.export(weave(emit, Phases(strides, names)), "woven")
    running = session(graph.model([], ["woven"]))

    np.testing.assert_array_equal(running.run(None, {"x_0": whole})[0], whole)


class Block(nn.Module):
    """What leads up to a strided depthwise convolution in MobileNets."""

    def __init__(self, activation, kernel, stride):
        super().__init__()
        self.expand, self.activation = nn.Conv2d(16, 16, 1), activation
        self.expand.weight.data *= 6  # so that bounds are reached
        self.depthwise = nn.Conv2d(16, 16, kernel, stride, kernel // 2, groups=16)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        y = self.depthwise(self.activation(self.expand(x)))
        return self.head(y.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    "activation", [nn.ReLU6(), nn.ReLU(), nn.Hardtanh(-1, 2), nn.LeakyReLU(0.25)], ids=str
)
@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 2, 8), (5, 2, 10), (7, 3, 9)])
def test_gradient_before_a_strided_convolution_agrees_with_torch(activation, kernel, stride, size):
    torch.manual_seed(0)
    module = Block(activation, kernel, stride).requires_grad_(requires_grad=False)
    graph = Graph(to_onnx(module, torch.zeros(2, 16, size, size)))
    (x,), (logits,) = graph.inputs, graph.outputs
    graph.add_input("dy", graph.type(logits))
    graph.export(pull_back(Emit(graph), {logits: "dy"}, [x], RULES, NON_DIFFERENTIABLE)[x], "dx")
    made = graph.model(["dy"], [logits, "dx"])
    rng = np.random.default_rng(0)
    given = rng.normal(size=(3, 16, size, size)).astype(np.float32)
    dy = rng.normal(size=(3, 4)).astype(np.float32)

    source = torch.tensor(given, dtype=torch.float64, requires_grad=True)
    module.double()(source).backward(torch.tensor(dy))
    expected = source.grad.numpy()
    in_float32 = session(made).run(None, {x: given, "dy": dy})[1]
    in_float64 = Float64Twin(made).run({x: given.astype(np.float64), "dy": dy.astype(np.float64)})["dx"]

    assert "ConvTranspose" not in {node.op_type for node in made.graph.node}
    np.testing.assert_allclose(in_float64, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    np.testing.assert_allclose(in_float32, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_behind_a_mask_and_a_pointwise_convolution_only_few_channels_are_woven():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU6(), nn.Conv2d(16, 16, 3, 2, 1, groups=16))
    graph = Graph(to_onnx(module, torch.zeros(2, 3, 8, 8)))
    (x,), (y,) = graph.inputs, graph.outputs
    graph.add_input("dy", graph.type(y))
    graph.export(pull_back(Emit(graph), {y: "dy"}, [x], RULES, NON_DIFFERENTIABLE)[x], "dx")
    made = Graph(graph.model(["dy"], ["dx"]))

    joined = [made.shape(node.outputs[0])[1:] for node in made.nodes if node.key.op_type == "Concat"]

    assert joined == [(4 * 3, 4, 4)]


@pytest.mark.parametrize("size", [8, 7])
def test_phases_need_parts_of_one_size(size):
    case = conv((2, 3, size, 8), (3, 1, 3, 3), group=3, strides=[2, 2], pads=[1, 1, 1, 1])
    operators = {node.op_type for node in vjp_model(forward_model(case, sample(case)[1])).graph.node}

    assert ("ConvTranspose" in operators) == (size == 7)
