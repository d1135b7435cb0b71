"""Max-sensitivity: how far a map moves when its input hardly does.

``max over draws of |A(x + d) - A(x)| / |A(x)|``, ``d`` uniform in a box of half side 0.02 in the units that the model
takes (Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition 3.1, by sampling as in
Captum's ``sensitivity_max``, whose radius and number of draws these are). The explained class stays the one of x.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from clearweight.exporter.evaluate.attribution import Map, Targets
from clearweight.exporter.evaluate.similarity import Values

RADIUS = 0.02
DRAWS = 10


def max_sensitivity(
    explain: Callable[[Tensor, Targets], Map],
    images: Tensor,
    targets: Targets,
    *,
    radius: float = RADIUS,
    draws: int = DRAWS,
    seed: int = 0,
) -> Values:
    """Return the largest relative change of each map.

    Parameters
    ----------
    explain : ``(images, targets) -> maps`` of any shape with N first
    images : float32, shape (N, ...)

    Returns
    -------
    float64, shape (N,), 0 is steady; NaN where the map is zero or not finite
    """
    aim = explain(images, targets).reshape(len(images), -1).astype(np.float64)
    generator = torch.Generator().manual_seed(seed)
    largest = np.zeros(len(images))
    for _ in range(draws):
        step = radius * (2 * torch.rand(images.shape, generator=generator) - 1)
        moved = explain(images + step, targets).reshape(len(images), -1).astype(np.float64)
        largest = np.maximum(largest, np.linalg.norm(moved - aim, axis=1))  # NaN stays NaN
    size = np.linalg.norm(aim, axis=1)
    relative: Values = np.divide(largest, size, out=np.full_like(size, np.nan), where=size > 0)
    return relative
