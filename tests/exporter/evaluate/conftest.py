"""Two related small CNNs and images: a reference and a copy with half of its weights gone."""

import copy

import numpy as np
import pytest
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(5 * 15, 4)

    def forward(self, x):
        return self.fc(self.pool(torch.relu(self.conv(x))).flatten(1))


@pytest.fixture
def reference():
    torch.manual_seed(31)
    return Net().eval()


@pytest.fixture
def compressed(reference):
    pruned = copy.deepcopy(reference)
    with torch.no_grad():
        for weight in (pruned.conv.weight.data, pruned.fc.weight.data):
            weight.mul_(weight.abs() > weight.abs().median())
    return pruned


@pytest.fixture
def images():
    return torch.randn(9, 2, 6, 10, generator=torch.Generator().manual_seed(32))


@pytest.fixture
def targets():
    return np.random.default_rng(33).integers(0, 4, 9)
