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
    "occlusions_reference": ("occlusion_reference", np.dtype(np.float16)),
    "occlusions_compressed": ("occlusion_compressed", np.dtype(np.float16)),
}
OPTIONAL = ("occlusions_reference", "occlusions_compressed")


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
    occlusions_reference, occlusions_compressed : float16, shape (n, ...), both or neither
        Occlusion maps, which need no gradient; of a quantized model and its reference.
    """

    inputs: NDArray[Any]
    target: NDArray[np.int64]
    logits_reference: NDArray[np.float32]
    logits_compressed: NDArray[np.float32]
    maps_reference: NDArray[np.float16]
    maps_compressed: NDArray[np.float16]
    occlusions_reference: NDArray[np.float16] | None = None
    occlusions_compressed: NDArray[np.float16] | None = None

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
        if (self.occlusions_reference is None) != (self.occlusions_compressed is None):
            raise CanaryError(
                "Canary tensors hold the occlusion of one model, expected both models' or none."
            )
        for attribute, (key, dtype) in self._given():
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
            OPTIONAL,
        ):
            shapes = np.shape(getattr(self, first)), np.shape(getattr(self, second))
            if shapes[0] != shapes[1]:
                raise CanaryError(
                    f"Canary tensors {first} and {second} have shapes {shapes[0]} and {shapes[1]}."
                )

    def to_bytes(self) -> bytes:
        """Write as safetensors; the same probes give the same bytes."""
        self.validate()
        return save(
            {key: np.ascontiguousarray(getattr(self, attribute)) for attribute, (key, _) in self._given()}
        )

    def _given(self) -> list[tuple[str, tuple[str, np.dtype[Any] | None]]]:
        """List the tensors that are there."""
        return [(name, entry) for name, entry in TENSORS.items() if getattr(self, name) is not None]


def canary_from_bytes(data: bytes) -> Canary:
    """Read probes from safetensors.

    Raises
    ------
    CanaryError
        Not safetensors, or not exactly the six or eight tensors of matching shapes.
    """
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise CanaryError(f"canaries.safetensors cannot be read ({error}).") from error
    keys = {key: attribute for attribute, (key, _) in TENSORS.items()}
    always = {key for key, attribute in keys.items() if attribute not in OPTIONAL}
    if set(arrays) not in (always, set(keys)):
        raise CanaryError(
            f"canaries.safetensors holds {sorted(arrays)}, expected {sorted(always)}, and of a quantized model "
            f"{sorted(set(keys) - always)}."
        )
    canary = Canary(**{keys[key]: array for key, array in arrays.items()})
    canary.validate()
    return canary
