"""Networks of VGG's shape: stages of 3x3 convolutions between poolings, then two wide layers and the logits."""

from collections.abc import Sequence

from torch import nn

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg(nn.Sequential):
    """VGG (Simonyan and Zisserman, ICLR 2015, table 1, D for sixteen layers). Input [N, channels, size, size].

    Parameters
    ----------
    stages : output channels of the convolutions of each stage; a pooling behind each halves the size
    hidden : width of the two layers before the logits
    """

    def __init__(
        self, stages: Sequence[Sequence[int]], size: int, *, channels: int, hidden: int, classes: int
    ) -> None:
        layers: list[nn.Module] = []
        for stage in stages:
            for wide in stage:
                layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU()]
                channels = wide
            layers.append(nn.MaxPool2d(2))
            size //= 2
        super().__init__(
            *layers,
            nn.Flatten(),
            nn.Linear(channels * size * size, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
