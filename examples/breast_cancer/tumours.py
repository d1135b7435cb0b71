"""What a user brings: measurements of cell nuclei, and a network that tells malignant from benign."""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn


def network() -> nn.Module:
    """Return the untrained network: 30 measurements to logits (n, 2)."""
    return nn.Sequential(nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2))


def measurements(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return measurements, float32 (n, 30), and classes (0 malignant, 1 benign) of ``train`` or ``test``."""
    values, classes = load_breast_cancer(return_X_y=True)
    train, test, of_train, of_test = train_test_split(
        values.astype(np.float32), classes, test_size=120, stratify=classes, random_state=0
    )
    return (train, of_train) if part == "train" else (test, of_test)
