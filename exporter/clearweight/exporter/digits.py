"""A small, real classification task that needs no download: scikit-learn's handwritten digits.

`clearweight demo` and the end-to-end tests name these callables in their recipes, as a user names his own.
"""

from collections import OrderedDict
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn


def images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the 1,797 images, uint8 0..16 of shape (n, 1, 8, 8), and their classes 0..9."""
    bunch: Any = load_digits()
    return bunch.images.astype(np.uint8)[:, None], bunch.target.astype(np.int64)


def network(width: int = 32) -> nn.Module:
    """Return an untrained CNN, (n, 1, 8, 8) -> logits (n, 10); 151,306 parameters at the default width.

    Parameters
    ----------
    width : channels of the first convolution; the second has twice as many, the hidden layer four times
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(1, width, 3, padding=1),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(width, 2 * width, 3, padding=1),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(2 * width * 16, 4 * width),
        relu3=nn.ReLU(),
        fc2=nn.Linear(4 * width, 10),
    )
    return nn.Sequential(layers)


class RowReader(nn.Module):
    """A recurrent network that reads images row by row, (n, 1, 8, 8) -> logits (n, 10) of its last state."""

    def __init__(self, cell: type[nn.GRU | nn.LSTM], hidden: int) -> None:
        super().__init__()
        self.rows = cell(8, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        states, _ = self.rows(x.flatten(1, 2))
        logits: Tensor = self.head(states[:, -1])
        return logits


def row_reader(cell: Literal["gru", "lstm"] = "gru", hidden: int = 64) -> nn.Module:
    """Return an untrained recurrent network, (n, 1, 8, 8) -> logits (n, 10): eight steps of eight values.

    Parameters
    ----------
    hidden : size of the state
    """
    return RowReader({"gru": nn.GRU, "lstm": nn.LSTM}[cell], hidden)
