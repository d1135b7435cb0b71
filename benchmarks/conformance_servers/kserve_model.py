"""An ONNX file behind the KServe SDK, as its documentation shows a custom model.

Arguments: file, REST port, gRPC port.
"""

import sys
from typing import Any

import numpy as np
import onnxruntime as ort
from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid

TINY = {"input": [-1, 1, 8, 8], "logits": [-1, 5]}


class Onnx(Model):  # type: ignore[misc]  # untyped here
    """One input, one output; V1 and V2."""

    def __init__(self, name: str, file: str) -> None:
        super().__init__(name)
        self._file = file
        self.load()

    def load(self) -> bool:
        """Open the session."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = ort.InferenceSession(self._file, options)
        self.ready = True
        return True

    def get_input_types(self) -> list[dict[str, Any]]:
        """Describe the input."""
        return [{"name": "input", "datatype": "FP32", "shape": TINY["input"]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Describe the output."""
        return [{"name": "logits", "datatype": "FP32", "shape": TINY["logits"]}]

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Decode, run, encode."""
        del headers, response_headers
        if isinstance(payload, dict):
            rows = payload["instances"] if "instances" in payload else payload["inputs"]
            (y,) = self._session.run(None, {"input": np.array(rows, np.float32)})
            return {"predictions": y.tolist()}
        (y,) = self._session.run(None, {"input": payload.inputs[0].as_numpy()})
        output = InferOutput(name="logits", shape=list(y.shape), datatype="FP32")
        output.set_data_from_numpy(y, binary_data=payload.use_binary_outputs)
        return InferResponse(
            response_id=payload.id or generate_uuid(),
            model_name=self.name,
            infer_outputs=[output],
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


if __name__ == "__main__":
    file, http, grpc = sys.argv[1:]
    ModelServer(http_port=int(http), grpc_port=int(grpc), workers=1).start([Onnx("tiny", file)])
