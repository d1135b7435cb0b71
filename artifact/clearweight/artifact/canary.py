"""Probes that travel with a model: inputs with the answers of reference and compressed model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from clearweight.artifact.errors import CanaryError

# Attribute of ``Canary`` -> key in canaries.safetensors and dtype; None: any raw type.
TENSORS: dict[str, tuple[str, np.dtype[Any] | None]] = {
    "inputs": ("input", None),
    "target": ("target", np.dtype(np.int64)),
    "logits_reference": ("logits_reference", np.dtype(np.float32)),
    "logits_compressed": ("logits_compressed", np.dtype(np.float32)),
    "maps_reference": ("map_reference", np.dtype(np.float16)),
    "maps_compressed": ("map_compressed", np.dtype(np.float16)),
}


@dataclass(frozen=True, eq=False)
class Canary:
    """Probe tensors, one row per probe.

    Parameters
    ----------
    inputs : raw dtype, shape (n, ...)
    target : int64, shape (n,)
        Class that was explained.
    logits_reference, logits_compressed : float32, shape (n, C)
    maps_reference, maps_compressed : float16, shape (n, ...)
        The default explainer's maps; of no further axes where there is no explainer.
    """

    inputs: NDArray[Any]
    target: NDArray[np.int64]
    logits_reference: NDArray[np.float32]
    logits_compressed: NDArray[np.float32]
    maps_reference: NDArray[np.float16]
    maps_compressed: NDArray[np.float16]

    @property
    def count(self) -> int:
        """Number of probes."""
        return int(self.inputs.shape[0])

    def validate(self) -> None:
        """Refuse probes that do not belong together.

        Raises
        ------
        CanaryError
            A wrong dtype, or numbers of rows or shapes that differ.
        """
        if self.inputs.ndim == 0:
            raise CanaryError("Canary tensor 'input' is a scalar, expected one row per probe.")
        for attribute, (key, dtype) in TENSORS.items():
            array = getattr(self, attribute)
            if dtype is not None and array.dtype != dtype:
                raise CanaryError(f"Canary tensor {key!r} has dtype {array.dtype}, expected {dtype}.")
            if array.ndim == 0 or array.shape[0] != self.inputs.shape[0]:
                raise CanaryError(
                    f"Canary tensor {key!r} has shape {array.shape}, expected {self.count} rows."
                )
        if self.target.ndim != 1:
            raise CanaryError(
                f"Canary tensor 'target' has shape {self.target.shape}, expected ({self.count},)."
            )
        for first, second in (
            ("logits_reference", "logits_compressed"),
            ("maps_reference", "maps_compressed"),
        ):
            shapes = getattr(self, first).shape, getattr(self, second).shape
            if shapes[0] != shapes[1]:
                raise CanaryError(
                    f"Canary tensors {first} and {second} have shapes {shapes[0]} and {shapes[1]}."
                )

    def to_bytes(self) -> bytes:
        """Write as safetensors; the same probes give the same bytes."""
        self.validate()
        return save(
            {key: np.ascontiguousarray(getattr(self, attribute)) for attribute, (key, _) in TENSORS.items()}
        )


def canary_from_bytes(data: bytes) -> Canary:
    """Read probes from safetensors.

    Raises
    ------
    CanaryError
        Not safetensors, or not exactly the six tensors of matching shapes.
    """
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise CanaryError(f"canaries.safetensors cannot be read ({error}).") from error
    keys = {key for key, _ in TENSORS.values()}
    if set(arrays) != keys:
        raise CanaryError(f"canaries.safetensors holds {sorted(arrays)}, expected {sorted(keys)}.")
    canary = Canary(**{attribute: arrays[key] for attribute, (key, _) in TENSORS.items()})
    canary.validate()
    return canary
