"""How many weights each tensor keeps: by its own share, or by one multiplier across all tensors.

`global_masks` and `rate_masks` compare saliencies of different tensors, so these must be one quantity there: a
distortion. ``global`` drops every weight whose distortion is below one threshold. ``rate`` divides by the bits that
the weight costs where it lies: the Lagrangian ``distortion + mu bits`` of one mu, that is equal marginal distortion per
bit (Everett, Operations Research 1963; Shoham and Gersho, IEEE Trans. ASSP 1988).
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

# What a survivor's value costs beside its place: about what a codebook of four bits takes after Huffman coding.
VALUE_BITS = 3.5


def kept_count(size: int, density: float) -> int:
    """Return how many of ``size`` weights a density keeps: rounded to nearest, at least one."""
    return max(1, round(size * density))


def top_mask(saliency: Tensor, keep: int) -> Tensor:
    """Keep the ``keep`` most salient entries; ties fall to the lower index, so the mask is the same on every run.

    Parameters
    ----------
    saliency : any shape, larger is more worth keeping

    Returns
    -------
    bool, same shape; exactly ``keep`` entries are True
    """
    order = torch.sort(saliency.flatten(), descending=True, stable=True).indices
    mask = torch.zeros(saliency.numel(), dtype=torch.bool, device=saliency.device)
    mask[order[:keep]] = True
    return mask.view_as(saliency)


def layer_masks(saliencies: Mapping[str, Tensor], densities: Mapping[str, float]) -> dict[str, Tensor]:
    """Prune each tensor to its own density."""
    return {name: top_mask(s, kept_count(s.numel(), densities[name])) for name, s in saliencies.items()}


def global_masks(saliencies: Mapping[str, Tensor], density: float) -> dict[str, Tensor]:
    """Prune all tensors together to one density; every tensor keeps at least its most salient weight."""
    names = list(saliencies)
    flat = torch.cat([saliencies[name].flatten() for name in names])
    kept = top_mask(flat, kept_count(flat.numel(), density))
    parts = torch.split(kept, [saliencies[name].numel() for name in names])
    masks = {name: part.view_as(saliencies[name]).clone() for name, part in zip(names, parts, strict=True)}
    return {name: mask if mask.any() else top_mask(saliencies[name], 1) for name, mask in masks.items()}


def marginal_bits(density: float) -> float:
    """Bits that one more survivor costs: its value, and the derivative of ``n H(density)`` by the number kept.

    >>> round(marginal_bits(0.5), 3), round(marginal_bits(1 / 33), 3)
    (3.5, 8.5)
    """
    return VALUE_BITS + max(0.0, float(np.log2((1 - density) / density)))


def rate_masks(saliencies: Mapping[str, Tensor], density: float, rounds: int = 20) -> dict[str, Tensor]:
    """Prune all tensors together by distortion per bit.

    A place costs more bits where few weights survive, and how many survive depends on the cost: the densities are
    iterated to a fixed point, halfway each round. At ``density`` 1 nothing is dropped.
    """
    sizes = {name: s.numel() for name, s in saliencies.items()}
    now = dict.fromkeys(saliencies, density)
    masks = global_masks(saliencies, density)
    for _ in range(rounds):
        bits = {name: marginal_bits(min(max(p, 1 / sizes[name]), 0.5)) for name, p in now.items()}
        per_bit = {n: torch.where(s > 0, s / bits[n], s) for n, s in saliencies.items()}
        before, masks = masks, global_masks(per_bit, density)
        if all(torch.equal(before[name], mask) for name, mask in masks.items()):
            break
        now = {name: (now[name] + float(mask.float().mean())) / 2 for name, mask in masks.items()}
    return masks
