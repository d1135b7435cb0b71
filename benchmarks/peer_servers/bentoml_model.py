"""An ONNX file behind BentoML, as its documentation shows a service; requests and replies have the protocol's JSON.

The file is the environment's ``MODEL_FILE``.
"""

import os
from typing import Any

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1, logging={"access": {"enabled": False}})  # type: ignore[untyped-decorator]  # untyped here
class Onnx:
    """One input, one output, both float32."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = ort.InferenceSession(os.environ["MODEL_FILE"], options)
        (source,), (result,) = self._session.get_inputs(), self._session.get_outputs()
        self._names = source.name, result.name

    @bentoml.api  # type: ignore[untyped-decorator]  # untyped here
    def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Decode, run, encode."""
        (tensor,) = inputs
        x = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        (y,) = self._session.run(None, {self._names[0]: x})
        made = {"name": self._names[1], "shape": list(y.shape), "datatype": "FP32"}
        return {"outputs": [made | {"data": y.ravel().tolist()}]}
