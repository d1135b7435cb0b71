"""LeNet-5 in the form that Deep Compression prunes: two convolutions, two linear layers."""

from collections import OrderedDict

from torch import nn


def lenet_5() -> nn.Module:
    """Return the untrained network, (n, 1, 28, 28) -> logits (n, 10); 431,080 parameters."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(1, 20, 5),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(20, 50, 5),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(800, 500),
        relu=nn.ReLU(),
        fc2=nn.Linear(500, 10),
    )
    return nn.Sequential(layers)
