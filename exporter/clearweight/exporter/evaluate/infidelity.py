"""Infidelity: whether what a map credits to a part of the input is what the model loses without it.

``E_m[(beta <m, A> - (F_c(x) - F_c(x o (1 - m))))^2]`` (Yeh et al., On the (In)fidelity and Sensitivity of Explanations,
NeurIPS 2019, definition 2.1, with I = x o m): ``m`` removes one window of places, ``<m, A>`` is what the map says that
these places are worth. Captum's ``infidelity`` with that perturbation gives the same number. Normalised, as by default
here, ``beta`` is the best factor for each input (Captum's ``normalize``), so that a map needs no units, and the result
is divided by ``E[(F_c(x) - F_c(x o (1 - m)))^2]``: 0 where the map foretells every loss, 1 where it says nothing.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clearweight.exporter.evaluate.attribution import Map, Targets
from clearweight.exporter.evaluate.faithfulness import has_order
from clearweight.exporter.evaluate.similarity import Values

REMOVALS = 10
_LARGEST_SHARE = 0.5


def infidelity(
    module: nn.Module,
    images: Tensor,
    targets: Targets,
    maps: Map,
    *,
    normalized: bool = True,
    removals: int = REMOVALS,
    seed: int = 0,
) -> Values:
    """Compare what a map foretells with what happens, over random windows that are the same for every map.

    Parameters
    ----------
    module : maps (N, ...) to logits (N, C)
    images : float32, shape (N, C, *space) or (N, D)
    maps : (N, *space) or (N, D): one number per position, read as its contribution to the logit
    normalized : whether the map's scale is fitted and the error is relative
    removals : windows per image

    Returns
    -------
    float64, shape (N,), 0 or more, at most 1 where normalised; NaN where the map is zero or not finite, or no
    removal changes anything
    """
    space = tuple(images.shape[2:] if images.dim() > 2 else images.shape[1:])
    masks = removed_windows(space, (len(images), removals), seed)
    known = np.where(np.isfinite(maps), maps, 0).reshape(len(maps), 1, -1).astype(np.float64)
    told = (masks.reshape(len(images), removals, -1) * known).sum(2)
    lost = _lost(module, images, targets, masks)
    if not normalized:
        return np.where(has_order(maps), ((told - lost) ** 2).mean(1), np.nan)
    size, fit = (told**2).sum(1), (told * lost).sum(1)
    factor = np.divide(fit, size, out=np.ones_like(fit), where=size > 0)
    missed, whole = ((factor[:, None] * told - lost) ** 2).sum(1), (lost**2).sum(1)
    relative = np.divide(missed, whole, out=np.full_like(missed, np.nan), where=whole > 0)
    return np.where(has_order(maps), relative, np.nan)


def removed_windows(space: tuple[int, ...], count: tuple[int, int], seed: int) -> NDArray[np.float64]:
    """Draw windows, 1 inside and 0 outside, (*count, *space): up to half of each axis long, anywhere inside it."""
    random = np.random.default_rng(seed)
    masks = np.ones((*count, *space))
    for axis, length in enumerate(space):
        size = random.integers(1, max(1, round(_LARGEST_SHARE * length)), size=(*count, 1), endpoint=True)
        start = random.integers(0, length - size, endpoint=True)
        place = np.arange(length)
        along = (place >= start) & (place < start + size)
        masks *= along.reshape(*count, *[length if other == axis else 1 for other in range(len(space))])
    return masks


def _lost(module: nn.Module, images: Tensor, targets: Targets, masks: NDArray[np.float64]) -> Values:
    """What the explained logit falls by when each window is set to zero, (N, removals)."""
    count, removals = masks.shape[:2]
    space = masks.shape[2:]
    keep = (
        torch.from_numpy(1 - masks)
        .float()
        .reshape(count, removals, *(1,) * (images.dim() - 1 - len(space)), *space)
    )
    classes = torch.from_numpy(np.array(targets))
    fallen = []
    with torch.inference_mode():
        for image, kept, c in zip(images, keep, classes, strict=True):
            logits = module(torch.cat([image[None], image[None] * kept]))[:, c].double()
            fallen.append((logits[0] - logits[1:]).numpy())
    return np.stack(fallen)
