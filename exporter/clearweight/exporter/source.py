"""The user's own code and weights: `module:callable`, and weight files without pickle."""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from clearweight.exporter.errors import SourceError
from clearweight.exporter.recurrent import look_up_weights


def load_callable(reference: str) -> Callable[..., Any]:
    """Import ``module:callable``.

    The working directory is *appended* to the search path: a user's own ``service`` or ``exporter`` package is
    found, and never shadows an installed one.

    Raises
    ------
    SourceError
        The form is wrong, the module cannot be imported, or it has no such callable.
    """
    module_name, colon, attribute = reference.partition(":")
    if not (colon and module_name and attribute):
        raise SourceError(f"{reference!r} is not of the form 'module:callable', for example 'models:lenet'.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise SourceError(f"Cannot import module {module_name!r} of {reference!r}: {error}.") from error
    except Exception as error:  # whatever the user's own module raises while it is imported
        raise SourceError(
            f"Module {module_name!r} of {reference!r} fails while it is imported: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise SourceError(f"Module {module_name!r} has no callable {attribute!r}.")
    result: Callable[..., Any] = found
    return result


def _read_weights(path: Path) -> dict[str, Tensor]:
    match path.suffix:
        case ".safetensors":
            return load_file(path)
        case ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        case ".pt" | ".pth":
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(loaded, Mapping):
                raise TypeError(f"it holds {type(loaded).__name__}, expected a state dict")
            return dict(loaded.get("state_dict", loaded))
    raise SourceError(
        f"Weights {str(path)!r} end in {path.suffix!r}, expected .safetensors, .npz, .pt or .pth."
    )


# What the readers of the four formats raise for a file that is missing, cut, or holds more than tensors.
UNREADABLE = (OSError, ValueError, TypeError, RuntimeError, BadZipFile, UnpicklingError, SafetensorError)


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a state dict into ``module``; a counter of BatchNorm batches may be absent.

    Raises
    ------
    SourceError
        The file is missing or of an unknown kind, or its names or shapes are not the module's.
    """
    if not path.is_file():
        raise SourceError(f"Weights {str(path)!r} are not a file.")
    try:
        found = _read_weights(path)
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(f"Weights {str(path)!r} cannot be read: {reason}") from error
    state = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    own = module.state_dict()
    missing = [n for n in own if n not in state and not n.endswith("num_batches_tracked")]
    surplus = [n for n in state if n not in own]
    if missing or surplus:
        raise SourceError(
            f"Weights {str(path)!r} do not fit the model: missing {missing}, surplus {surplus}."
        )
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise SourceError(
                f"Weights {str(path)!r}: {name!r} has shape {tuple(tensor.shape)}, expected {tuple(own[name].shape)}."
            )
    module.load_state_dict(state, strict=False)


def build_model(reference: str, arguments: dict[str, Any], weights: Path | None) -> nn.Module:
    """Call the user's factory and load its weights; the result is in evaluation mode.

    Raises
    ------
    SourceError
        The factory fails or does not return a torch module, or the weights do not fit.
    """
    factory = load_callable(reference)
    try:
        module = factory(**arguments)
    except TypeError as error:
        raise SourceError(f"{reference!r} cannot be called with {arguments}: {error}.") from error
    if not isinstance(module, nn.Module):
        raise SourceError(f"{reference!r} returned {type(module).__name__}, expected a torch.nn.Module.")
    if weights is not None:
        load_weights(module, weights)
    return look_up_weights(module).eval()
