"""Whether a map tells the truth about its own model.

Similarity alone can be fooled: a model may copy the reference's maps and follow something else. The
measures here ask the model itself.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clearweight.exporter.evaluate.attribution import Map, Targets
from clearweight.exporter.evaluate.similarity import Values, spearman

DELETION_STEPS = 50
_IMAGES_AT_ONCE = 5


def deletion_auc(module: nn.Module, images: Tensor, targets: Targets, maps: Map) -> Values:
    """Area under the class probability while positions are removed in the map's order.

    Positions go from the largest to the smallest signed value, ties by the lower index, in 50 equal steps
    (to one position); a removed position is zero in every channel. The area is the trapezoid sum over the
    removed fraction, from nothing to everything. Lower is better.

    Parameters
    ----------
    module : maps (N, ...) to logits (N, C)
    images : float32, shape (N, C, *space) or (N, D)
    targets : int64, shape (N,)
    maps : shape (N, *space) or (N, D): one number per position

    Returns
    -------
    float64, shape (N,), in [0, 1]; NaN where the map is zero or not finite

    References
    ----------
    Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018,
    section 4.2.
    """
    return _area(module, images, targets, maps, removing=True)


def insertion_auc(module: nn.Module, images: Tensor, targets: Targets, maps: Map) -> Values:
    """Area under the class probability while positions are put into an empty input in the map's order.

    The reverse of `deletion_auc`, from zero everywhere to the whole input. Higher is better.
    """
    return _area(module, images, targets, maps, removing=False)


def _area(module: nn.Module, images: Tensor, targets: Targets, maps: Map, *, removing: bool) -> Values:
    order = np.argsort(-maps.reshape(len(maps), -1).astype(np.float64), axis=1, kind="stable")
    positions = order.shape[1]
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(positions)[None], axis=1)
    moved = np.round(np.linspace(0, positions, DELETION_STEPS + 1)).astype(np.int64)
    fraction = moved / positions
    curves = []
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        part = slice(start, start + _IMAGES_AT_ONCE)
        first = torch.from_numpy(rank[part])[:, None] < torch.from_numpy(moved)[None, :, None]
        curves.append(_curve(module, images[part], targets[part], ~first if removing else first))
    area = np.trapezoid(np.concatenate(curves), fraction, axis=1)
    return np.where(has_order(maps), area, np.nan)


def has_order(maps: Map) -> NDArray[np.bool_]:
    """Tell which maps rank anything at all: finite and not zero everywhere, (N,)."""
    flat = maps.reshape(len(maps), -1)
    defined: NDArray[np.bool_] = np.isfinite(flat).all(axis=1) & (flat != 0).any(axis=1)
    return defined


def _curve(module: nn.Module, images: Tensor, targets: Targets, keep: Tensor) -> Values:
    """Class probability of each image where only ``keep`` (N, steps, positions) is left of it, (N, steps)."""
    count, steps = keep.shape[:2]
    space = images.shape[2:] if images.dim() > 2 else images.shape[1:]
    mask = keep.reshape(count, steps, *(1,) * (images.dim() - 1 - len(space)), *space)
    with torch.inference_mode():
        rows = (images[:, None] * mask).reshape(-1, *images.shape[1:])
        probability = torch.softmax(module(rows).double(), dim=1).reshape(count, steps, -1)
    chosen = torch.from_numpy(np.array(targets))[:, None, None].expand(-1, steps, 1)
    return probability.gather(2, chosen)[..., 0].numpy()


def spearman_to_own_occlusion(input_x_gradient: Map, occlusion: Map) -> Values:
    """Rank correlation of a model's gradient map with its own occlusion map, image by image.

    Occlusion asks the model directly what a missing window changes, without a gradient.
    """
    return spearman(input_x_gradient, occlusion)
