"""Small networks with every structure the explainers must handle, as torch modules and as canonical ONNX."""

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional


class Mlp(nn.Module):
    shape = (1, 4, 4)

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(16, 12), nn.Linear(12, 5)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


class Affine(nn.Module):
    shape = (6,)

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(x)


class Cnn(nn.Module):
    """Convolution, batch normalisation, pooling, two full layers."""

    shape = (1, 12, 12)

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 8, 3)
        self.pool2 = nn.AvgPool2d(2)
        self.fc1, self.fc2 = nn.Linear(32, 10), nn.Linear(10, 4)

    def forward(self, x):
        h = self.pool1(torch.relu(self.bn1(self.conv1(x))))
        h = self.pool2(functional.leaky_relu(self.conv2(h)))
        return self.fc2(functional.relu6(self.fc1(torch.flatten(h, 1))))


class Residual(nn.Module):
    """A strided block with an option-A shortcut, 16 channels (flipped convolutions), global pooling."""

    shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.conv1 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.block = nn.Identity()
        self.linear = nn.Linear(32, 5)

    def forward(self, x):
        x = torch.relu(self.bn(self.stem(x)))
        h = self.conv2(torch.relu(self.conv1(x)))
        x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))
        h = torch.relu(h + x)
        return self.linear(functional.adaptive_avg_pool2d(h, 1).flatten(1))


class Wave(nn.Module):
    """One spatial axis."""

    shape = (2, 30)

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(2, 4, 5, stride=2, padding=2)
        self.conv2 = nn.Conv1d(4, 6, 3)
        self.fc = nn.Linear(18, 3)

    def forward(self, x):
        h = functional.max_pool1d(torch.relu(self.conv1(x)), 2)
        return self.fc(
            torch.flatten(functional.max_pool1d(torch.relu(self.conv2(h)), 2, stride=1), 1)[:, :18]
        )


class Smooth(nn.Module):
    """Not piecewise linear."""

    shape = (1, 6, 6)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(64, 4)

    def forward(self, x):
        return self.fc(torch.flatten(torch.tanh(self.conv(x)), 1))


class Plain(nn.Module):
    """Every operation a module of its own, each called once: what Captum and zennit can hook."""

    shape = (1, 10, 10)

    def __init__(self):
        super().__init__()
        self.conv1, self.relu1, self.pool1 = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2, self.pool2 = nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)
        self.fc1, self.relu3, self.fc2 = nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3)

    def forward(self, x):
        h = self.pool1(self.relu1(self.conv1(x)))
        h = self.pool2(self.relu2(self.conv2(h)))
        return self.fc2(self.relu3(self.fc1(torch.flatten(h, 1))))


class Unbiased(Plain):
    """Without biases relevance is conserved."""

    def __init__(self):
        super().__init__()
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
            layer.bias = None


MODULES = {"mlp": Mlp, "affine": Affine, "cnn": Cnn, "residual": Residual, "wave": Wave, "smooth": Smooth}
PLAIN_MODULES = {"plain": Plain, "unbiased": Unbiased}


@dataclass(frozen=True)
class Network:
    name: str
    module: nn.Module
    model: onnx.ModelProto

    def samples(self, count, seed=0):
        return np.random.default_rng(seed).normal(size=(count, *self.module.shape)).astype(np.float32)

    def gradient(self, x, target):
        """Torch gradient of the target logits, by default to the input."""
        x = torch.tensor(x, requires_grad=True)
        logits = self.module(x)
        target = torch.where(torch.as_tensor(target) < 0, logits.argmax(1), torch.as_tensor(target))
        logits.gather(1, target[:, None]).sum().backward()
        return x.grad.numpy()


def build_network(name, to_onnx):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = (MODULES | PLAIN_MODULES)[name]()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.running_mean, 0, 0.3)
                nn.init.uniform_(part.running_var, 0.5, 1.5)
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, 0, 0.3)
    module = module.eval().requires_grad_(requires_grad=False)
    return Network(name, module, to_onnx(module, torch.zeros(2, *module.shape)))
