"""The least bits at which weights can be told within a distortion: the bound beside which quantizers are judged.

Gao, Liu, Wang, Oh, Rate Distortion for Model Compression, ICML 2019, section 3: for a linear model with Gaussian
weights of second moments ``s_i`` and diagonal input covariance ``lambda_i`` (for a classifier: the Fisher diagonal) the
bound is reached by weighted reverse water-filling.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_HALVINGS = 200


@dataclass(frozen=True, eq=False)
class Filling:
    """Distortion of every weight and the bits of all of them together."""

    distortions: Floats
    bits: float


def water_filling(second_moments: Floats, curvatures: Floats, distortion: float) -> Filling:
    """R(D): ``sum_i max(0, log2(s_i / D_i)) / 2`` under ``sum_i lambda_i D_i <= distortion``.

    ``D_i = mu / lambda_i`` where that is below ``s_i``, else ``s_i``: a weight whose variance costs less than the water
    level is not told at all. A weight without curvature costs nothing at any distortion.

    Parameters
    ----------
    second_moments, curvatures : (n,) >= 0
    distortion : > 0

    Raises
    ------
    ValueError
        The distortion is not positive.
    """
    if distortion <= 0:
        raise ValueError(
            f"The distortion is {distortion}, expected a positive number: no finite code is exact."
        )
    costs = second_moments * curvatures
    if distortion >= costs.sum():
        return Filling(second_moments.copy(), 0.0)
    low, high = 0.0, float(costs.max())
    for _ in range(_HALVINGS):
        level = (low + high) / 2
        low, high = (level, high) if np.minimum(level, costs).sum() < distortion else (low, level)
    told = costs > high
    share = np.divide(high, curvatures, out=second_moments.copy(), where=told)
    return Filling(share, float(np.log2(costs[told] / high).sum() / 2))
