"""Work that survives an interruption: the reference and the model after every step, kept under what made them.

A checkpoint's name is a digest of everything that leads to it (data, recipe sections, steps so far, versions), so a
changed recipe never meets a stale file, and recipes that begin alike share their beginning.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from clearweight.exporter.compress.constraint import (
    PruneMask,
    SharedCodebook,
    constraints_of,
    free_value,
    parameter_names,
    put_codebook,
    put_mask,
)

# What a checkpoint depends on beside the recipe.
PACKAGES = ("torch", "numpy", "clearweight")


def checkpoint_key(*parts: Any) -> str:
    """Return the name of a checkpoint: a digest of JSON-like parts and of the versions that computed it."""
    versions = {package: version(package) for package in PACKAGES}
    text = json.dumps([versions, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Return free values, masks, centroids, indices and buffers of a constrained model."""
    state = {f"buffer:{n}": b for n, b in model.named_buffers() if "parametrizations" not in n.split(".")}
    for name in parameter_names(model):
        state[f"value:{name}"] = free_value(model, name).detach()
        for constraint in constraints_of(model, name):
            if isinstance(constraint, PruneMask):
                state[f"mask:{name}"] = constraint.mask
            elif isinstance(constraint, SharedCodebook):
                state[f"centroids:{name}"] = constraint.centroids.detach()
                state[f"indices:{name}"] = constraint.indices.to(torch.uint8)
    return {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}


def restore(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put a `model_state` into an unconstrained model of the same architecture."""
    buffers = dict(model.named_buffers())
    for key, tensor in state.items():
        kind, _, name = key.partition(":")
        if kind == "buffer":
            buffers[name].copy_(tensor)
        elif kind == "value":
            with torch.no_grad():
                free_value(model, name).copy_(tensor)
    for name in parameter_names(model):
        if (mask := state.get(f"mask:{name}")) is not None:
            put_mask(model, name, mask)
        if (centroids := state.get(f"centroids:{name}")) is not None:
            put_codebook(model, name, centroids, state[f"indices:{name}"])


class Checkpoints:
    """A folder of checkpoints; without a folder nothing is kept and nothing is found."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def load(self, key: str) -> dict[str, Tensor] | None:
        """Return the state kept under ``key``, or None."""
        if self._folder is None or not (path := self._folder / f"{key}.safetensors").is_file():
            return None
        return load_file(path)

    def save(self, key: str, state: dict[str, Tensor]) -> None:
        """Keep ``state`` under ``key``; the file appears whole or not at all."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / f"{key}.safetensors"
        partial = target.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(save(state))
        partial.replace(target)


def section(model: Any) -> Any:
    """Return a recipe section as JSON-like data for `checkpoint_key`."""
    if isinstance(model, Iterable) and not isinstance(model, str | dict):
        return [section(item) for item in model]
    return model.model_dump(mode="json") if hasattr(model, "model_dump") else model
