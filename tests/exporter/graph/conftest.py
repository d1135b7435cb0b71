"""Small networks of the kinds that are exported: an MLP, a CNN with pools, a residual CNN with BatchNorm."""

import hashlib

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from clearweight.exporter.graph import to_onnx


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 20)
        self.fc2 = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class PooledCnn(nn.Module):
    """Calls one pool twice and drops out between its linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        return self.fc(self.drop(x.flatten(1)))


class Block(nn.Module):
    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.added = planes - channels

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.added:
            half = self.added // 2
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, self.added - half))
        return torch.relu(h + x)


class ResidualCnn(nn.Module):
    """Option A shortcuts, functional padding, BatchNorm after every convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layers = nn.Sequential(Block(4, 4, 1), Block(4, 8, 2))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(torch.relu(self.bn1(self.conv1(x)))).mean((2, 3)))


def stir_statistics(module: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics and weights that no test passes by accident."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            child.running_mean.normal_()
            child.running_var.uniform_(0.3, 3.0)
            if child.affine:
                nn.init.normal_(child.weight)
                nn.init.normal_(child.bias)
    return module


@pytest.fixture
def stirred():
    return stir_statistics


@pytest.fixture
def perceptron():
    torch.manual_seed(11)
    return Perceptron().eval(), torch.randn(7, 1, 8, 8)


@pytest.fixture
def pooled_cnn():
    torch.manual_seed(12)
    return PooledCnn().eval(), torch.randn(7, 1, 8, 8)


@pytest.fixture
def residual_cnn():
    torch.manual_seed(13)
    return stir_statistics(ResidualCnn()).eval(), torch.randn(7, 2, 8, 8)


@pytest.fixture(params=["perceptron", "pooled_cnn", "residual_cnn"])
def network(request):
    """Each of the three, as (module, images)."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def exported():
    """Export a network, once for all tests that ask for the same numbers."""
    known = {}

    def export(module, images):
        numbers = b"".join(value.numpy().tobytes() for value in module.state_dict().values())
        key = (type(module), hashlib.sha256(numbers).digest())
        if key not in known:
            known[key] = to_onnx(module, images).SerializeToString()
        return onnx.load_from_string(known[key])

    return export
