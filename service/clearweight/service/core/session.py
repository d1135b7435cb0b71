"""ONNX Runtime sessions over graphs whose every parameter lives outside them.

Fast mode: each session takes its own copy of the parameters through ``add_external_initializers``, so constant
folding and layout transformers see the real values. The tempting alternative, ``add_initializer`` with one shared
buffer over a placeholder file, silently computes with the placeholder wherever an optimizer reads the file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from clearweight.artifact import WeightsReader

ort.disable_telemetry_events()


class Session:
    """One graph ready to run.

    Parameters
    ----------
    graph : bytes
        The ONNX file; its initializers are external and named like the tensors of ``weights``.
    weights : WeightsReader
        Decoded tensor by tensor, and only for the time the session takes to copy them.
    threads : int
        Threads per run.
    """

    def __init__(self, graph: bytes, weights: WeightsReader, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        names, values = [], []
        for name, tensor in weights.tensors():
            names.append(name)
            # Not ascontiguousarray: it would give a scalar, such as the scale of a quantized value, an axis.
            values.append(ort.OrtValue.ortvalue_from_numpy(np.asarray(tensor, order="C")))
        options.add_external_initializers(names, values)
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(node.name for node in self._session.get_inputs())
        self.outputs = tuple(node.name for node in self._session.get_outputs())

    def run(
        self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """Run once; ``outputs`` None returns all in the graph's order. Safe from several threads."""
        result: list[NDArray[Any]] = self._session.run(outputs, feed)
        return result
