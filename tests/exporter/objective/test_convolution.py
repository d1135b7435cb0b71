"""Convolutions made for second derivatives: everything that torch's own give, at every setting."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from clearweight.exporter.objective.convolution import twice_differentiable_convolutions

SETTINGS = [
    (2, {}),
    (2, {"stride": 2, "padding": 1}),
    (2, {"stride": (2, 3), "padding": (0, 2), "dilation": (1, 2)}),
    (2, {"groups": 2, "padding": 1, "bias": False}),
    (1, {"stride": 3, "padding": 2}),
    (3, {"stride": 2, "padding": 1}),
]


def network(axes, settings):
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    torch.manual_seed(0)
    return nn.Sequential(kind(4, 6, 3, **settings), nn.Softplus(), kind(6, 3, 2)).double()


def derivatives(model, x):
    """Logits, first derivatives, and the derivatives of losses of those, as matching takes them and beyond."""
    x = x.clone().requires_grad_()
    out = model(x)
    weights = list(model.parameters())
    slopes = torch.autograd.grad(out.square().sum(), [x, *weights], create_graph=True)
    losses = [(slopes[0] * x).sin().sum() + out.sum(), sum(slope.square().sum() for slope in slopes)]
    seconds = [torch.autograd.grad(loss, weights, retain_graph=True) for loss in losses]
    return [out, *slopes, *seconds[0], *seconds[1]]


@pytest.mark.parametrize(("axes", "settings"), SETTINGS)
def test_values_and_both_derivatives_are_torchs(axes, settings):
    model = network(axes, settings)
    x = torch.randn(2, 4, *(9, 8, 7)[:axes], dtype=torch.float64)
    expected = derivatives(model, x)

    with twice_differentiable_convolutions():
        found = derivatives(model, x)

    for own, aim in zip(found, expected, strict=True):
        torch.testing.assert_close(own, aim)


def test_convolutions_called_by_name_are_the_same():
    x, weight = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3)

    with twice_differentiable_convolutions():
        found = functional.conv2d(input=x, weight=weight, padding=1)

    torch.testing.assert_close(found, functional.conv2d(x, weight, padding=1))
    assert found.shape == (1, 3, 5, 5)


@pytest.mark.parametrize("x", [torch.randn(2, 5, 5), torch.randn(1, 2, 5, 5)])
def test_padding_by_name_and_inputs_without_a_batch_are_torchs_own(x):
    weight = torch.randn(3, 2, 3, 3)

    with twice_differentiable_convolutions():
        found = functional.conv2d(x, weight, padding="same" if x.ndim == 4 else 1)

    torch.testing.assert_close(found, functional.conv2d(x, weight, padding=1))


def test_under_autocast_the_convolution_computes_in_its_type():
    x, weight = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3, requires_grad=True)

    with torch.autocast("cpu", torch.bfloat16), twice_differentiable_convolutions():
        found = functional.conv2d(x, weight)
    found.float().sum().backward()

    assert found.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32
