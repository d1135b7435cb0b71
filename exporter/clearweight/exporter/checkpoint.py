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
from pydantic import BaseModel
from safetensors.torch import load_file, save
from torch import Tensor, nn

from clearweight.exporter.compress import CONSTRAINTS
from clearweight.exporter.compress.constraint import (
    constraints_of,
    free_value,
    held_tensors,
    parameter_names,
    put,
    replaced,
)

# What a checkpoint depends on beside the recipe.
PACKAGES = ("torch", "numpy", "clearweight")


def checkpoint_key(*parts: Any) -> str:
    """Return the name of a checkpoint: a digest of JSON-like parts and of the versions that computed it."""
    versions = {package: version(package) for package in PACKAGES}
    text = json.dumps([versions, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Return buffers, free values and constraints of a model.

    A constraint's tensors are kept as ``constraint:parameter:position:kind:tensor``.
    """
    state = {f"buffer:{n}": b for n, b in model.named_buffers() if "parametrizations" not in n.split(".")}
    for name in parameter_names(model):
        state[f"value:{name}"] = free_value(model, name).detach()
        for owner in dict.fromkeys((replaced(model, name), name)):
            for position, constraint in enumerate(constraints_of(model, owner)):
                for key, tensor in held_tensors(model, owner, constraint).items():
                    state[f"constraint:{owner}:{position}:{constraint.kind}:{key}"] = _narrow(tensor.detach())
    return {key: tensor.cpu().contiguous().clone() for key, tensor in state.items()}


def _narrow(tensor: Tensor) -> Tensor:
    """Keep codes in a byte each where they fit."""
    fits = tensor.dtype == torch.int64 and (not tensor.numel() or 0 <= tensor.min() <= tensor.max() < 256)
    return tensor.to(torch.uint8) if fits else tensor


def restore(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put a `model_state` into an unconstrained model of the same architecture."""
    held: dict[tuple[str, int, str], dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if key.startswith("constraint:"):
            _, name, position, kind, argument = key.split(":")
            held.setdefault((name, int(position), kind), {})[argument] = tensor
    # A replaced parameter's name begins its factors' names, so it comes first.
    for (name, _, kind), tensors in sorted(held.items(), key=lambda entry: entry[0]):
        put(model, name, CONSTRAINTS[kind](**tensors))
    buffers = dict(model.named_buffers())
    for key, tensor in state.items():
        kind, _, name = key.partition(":")
        if kind == "buffer":
            buffers[name].copy_(tensor)
        elif kind == "value":
            with torch.no_grad():
                free_value(model, name).copy_(tensor)


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
    """Return a recipe section as JSON-like data for `checkpoint_key`.

    A setting that a section's own dump leaves out (`exclude_if`: it came later, and has its usual value) is left out
    here too, so that what was trained before it came is still found.
    """
    if isinstance(model, BaseModel):
        said = model.model_dump(mode="json")
        return [[name, section(value)] for name, value in model if name in said]
    if isinstance(model, Iterable) and not isinstance(model, str | dict):
        return [section(item) for item in model]
    return model
