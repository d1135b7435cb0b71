"""The networks of the benchmarks, with the parameter counts and names that the literature and data sets use."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.image_networks import MobileNetV2, ResNet18, SeriesNetwork, VisionTransformer


class LeNet300100(nn.Module):
    """784-300-100-10 with ReLU, 266,610 parameters (Han et al., NeurIPS 2015). Input [N, 1, 28, 28]."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, 10]."""
        h = functional.relu(self.fc1(torch.flatten(x, 1)))
        logits: Tensor = self.fc3(functional.relu(self.fc2(h)))
        return logits


class LeNet5(nn.Module):
    """LeNet-5 as Caffe ships it, 431,080 parameters: ReLU only after the first full layer. Input [N, 1, 28, 28]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, 10]."""
        h = self.pool1(self.conv1(x))
        h = self.pool2(self.conv2(h))
        logits: Tensor = self.fc2(functional.relu(self.fc1(torch.flatten(h, 1))))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut that costs no parameter: option A, strided and zero-padded."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.extra = (channels - channels_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, half the size at stride 2."""
        h = functional.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        if self.stride > 1:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return functional.relu(h + x)


class ResNet20(nn.Module):
    """ResNet-20 for CIFAR-10 (He et al., CVPR 2016, section 4.2), 269,722 parameters. Input [N, 3, 32, 32].

    ``width`` other than 16 gives the same layers with fewer channels, or more; 5 ``blocks`` a stage make ResNet-32.
    """

    def __init__(self, width: int = 16, blocks: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, 1, blocks)
        self.layer2 = _stage(width, 2 * width, 2, blocks)
        self.layer3 = _stage(2 * width, 4 * width, 2, blocks)
        self.linear = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, 10]."""
        h = functional.relu(self.bn1(self.conv1(x)))
        h = self.layer3(self.layer2(self.layer1(h)))
        logits: Tensor = self.linear(torch.flatten(functional.adaptive_avg_pool2d(h, 1), 1))
        return logits


def _stage(channels_in: int, channels: int, stride: int, blocks: int) -> nn.Sequential:
    others = [BasicBlock(channels, channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(channels_in, channels, stride), *others)


IMAGE = (3, 224, 224)
INPUT_SHAPES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "lenet_300_100": (1, 28, 28),
        "lenet_5": (1, 28, 28),
        "resnet_20": (3, 32, 32),
        "resnet_18": IMAGE,
        "mobilenet_v2": IMAGE,
        "vit_tiny": IMAGE,
        "ecg_1d": (1, 140),
    }
)

NETWORKS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "lenet_300_100": LeNet300100,
        "lenet_5": LeNet5,
        "resnet_20": ResNet20,
        "resnet_18": ResNet18,
        "mobilenet_v2": MobileNetV2,
        "vit_tiny": VisionTransformer,
        "ecg_1d": SeriesNetwork,
    }
)


def network(name: str, seed: int = 0) -> nn.Module:
    """Return a network in evaluation mode with weights from ``seed``; torch's own random state is left alone.

    Running statistics of batch normalisation are drawn too, so that folding them is no identity.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NETWORKS[name]()
        for module in model.modules():
            if (
                isinstance(module, nn.BatchNorm2d)
                and module.running_mean is not None
                and module.running_var is not None
            ):
                nn.init.normal_(module.running_mean, 0.0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.0, 0.1)
    return model.eval()


# As recipes call them: ``benchmarks.networks:lenet_5``.
lenet_300_100 = LeNet300100
lenet_5 = LeNet5
resnet_20 = ResNet20


def resnet_32() -> ResNet20:
    """Return ResNet-32 for CIFAR-10, 464,154 parameters."""
    return ResNet20(blocks=5)
