"""ECG5000's heart beats, normal against rest, and the network that tells them apart.

All beats are one patient's, so figures say nothing about another. Each row has mean 0 and deviation about 1 already.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.image_networks import SeriesNetwork

# Part -> the arrays it joins: inputs, labels. Labels are 0 for a normal beat in each of them.
PARTS = {
    "train": (("x_train", "y_train"), ("x_test1500", "y_test1500")),
    "test": (("x_test3000", "abnormal_test3000"),),
}


def beats(file: str, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return beats (n, 1, 140) and whether each is abnormal (n,).

    The official training set has 500 beats, too few to fit, validate and calibrate on; 1500 of the test part join them,
    and the other 3000 are the test.
    """
    with np.load(Path(file)) as arrays:
        inputs = np.concatenate([arrays[x] for x, _ in PARTS[part]])
        labels = np.concatenate([arrays[y] for _, y in PARTS[part]])
    return inputs[:, None].astype(np.float32), (labels > 0).astype(np.int64)


def network() -> SeriesNetwork:
    """Return the 1-D CNN with two logits: normal, abnormal."""
    return SeriesNetwork(classes=2)
