"""Small classifiers as canonical ONNX, and inputs for them."""

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from clearweight.exporter.graph import to_onnx


def mlp() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5)).eval()


def cnn() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 2, dilation=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 9, 4),
    ).eval()


def exported(module: nn.Module, row: tuple[int, ...]) -> onnx.ModelProto:
    return to_onnx(module, torch.zeros(2, *row))


def rows(count: int, row: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, *row)).astype(np.float32)
