"""How the sessions of a model hold its parameters: each its own copy, which is fast, or all of them one.

Fast: ``add_external_initializers`` gives every session a copy, so constant folding and layout transformers see the
real values and may keep them in whatever layout their kernels like best, at up to a second copy.

Saving: ``add_initializer`` lets all sessions read one buffer. That is only right while nobody reads the file in its
stead: the optimizers that do (NCHWc layout, constant folding, widening of float16) and prepacking are switched off, and
the file, which ONNX Runtime insists on, holds nothing but zeros. What would still read it fails the self-test, which
every model runs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from clearweight.artifact import WeightsReader

_PROVIDERS = ["CPUExecutionProvider"]
_READERS_OF_THE_FILE = ["NchwcTransformer", "ConstantFolding", "FuseFp16InitializerToFp32NodeTransformer"]
_FILE = "weights.cwt"  # as the graphs name where their parameters are


Read: TypeAlias = Callable[[], WeightsReader]


class Weights(Protocol):
    """The parameters of one model, for all its sessions."""

    def open(self, graph: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
        """Open a session over a graph whose parameters are all outside it."""


class OwnWeights:
    """Every session has a copy; decoded anew for each, and only for the time it takes to copy them.

    ``read`` opens the file again, and checks again that it is still the one the manifest states.
    """

    def __init__(self, read: Read) -> None:
        self._read = read

    def open(self, graph: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
        """Open a session with a copy of its own."""
        names, values = [], []
        for name, tensor in self._read().tensors():
            names.append(name)
            values.append(_value(tensor))
        options.add_external_initializers(names, values)
        return ort.InferenceSession(graph, options, providers=_PROVIDERS)


class SharedWeights:
    """All sessions read one buffer, which this object keeps; it must live as long as they do."""

    def __init__(self, read: Read) -> None:
        reader = read()
        self._values = {name: _value(tensor) for name, tensor in reader.tensors()}
        self._largest = max((record.dense_bytes for record in reader.records), default=0)

    def open(self, graph: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
        """Open a session over the one buffer."""
        import tempfile  # noqa: PLC0415  # half a megabyte that the fast mode does without

        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        for name, value in self._values.items():
            options.add_initializer(name, value)
        with tempfile.TemporaryDirectory(prefix="clearweight-") as name:
            folder = Path(name)
            (folder / "graph.onnx").write_bytes(graph)
            with (folder / _FILE).open("wb") as empty:
                empty.truncate(self._largest)  # sparse: it takes no room
            return ort.InferenceSession(
                folder / "graph.onnx", options, providers=_PROVIDERS, disabled_optimizers=_READERS_OF_THE_FILE
            )


def _value(tensor: NDArray[np.generic]) -> ort.OrtValue:
    # Not ascontiguousarray: it would give a scalar, such as the scale of a quantized value, an axis.
    return ort.OrtValue.ortvalue_from_numpy(np.asarray(tensor, order="C"))


MEMORY: dict[str, type[OwnWeights] | type[SharedWeights]] = {"fast": OwnWeights, "saving": SharedWeights}
"""The modes of the option ``memory``."""
