"""A user's own module: the network and the data that recipe.yaml names."""

import numpy as np
from sklearn.datasets import load_digits
from torch import Tensor, nn


class Network(nn.Module):
    """A small CNN with BatchNorm, for 8 x 8 images in ten classes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Linear(2 * channels * 16, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, 10) for images (n, 1, 8, 8)."""
        return self.classifier(self.features(images).flatten(1))


def network(channels: int = 16) -> nn.Module:
    """Return the untrained network."""
    return Network(channels)


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return all images, uint8 0..16 of shape (n, 1, 8, 8), and their classes."""
    bunch = load_digits()
    return bunch.images.astype(np.uint8)[:, None], bunch.target
