"""An ONNX file behind the KServe SDK, as its documentation shows a custom model; a log line per request is left out.

Arguments: file, name, REST port, gRPC port.
"""

import logging
import sys
from typing import Any

import numpy as np
import onnxruntime as ort
from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class Onnx(Model):  # type: ignore[misc]  # untyped here
    """One input, one output, both float32, their metadata from the file; V1 and V2."""

    def __init__(self, name: str, file: str) -> None:
        super().__init__(name)
        self._file = file
        self.load()

    def load(self) -> bool:
        """Open the session."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = ort.InferenceSession(self._file, options)
        (self._source,), (self._result,) = self._session.get_inputs(), self._session.get_outputs()
        self.ready = True
        return True

    def get_input_types(self) -> list[dict[str, Any]]:
        """Describe the input."""
        return [_described(self._source)]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Describe the output."""
        return [_described(self._result)]

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Decode, run, encode."""
        del headers, response_headers
        if isinstance(payload, dict):
            rows = payload["instances"] if "instances" in payload else payload["inputs"]
            (y,) = self._session.run(None, {self._source.name: np.array(rows, np.float32)})
            return {"predictions": y.tolist()}
        (y,) = self._session.run(None, {self._source.name: payload.inputs[0].as_numpy()})
        output = InferOutput(name=self._result.name, shape=list(y.shape), datatype="FP32")
        output.set_data_from_numpy(y, binary_data=payload.use_binary_outputs)
        return InferResponse(
            response_id=payload.id or generate_uuid(),  # none is not allowed
            model_name=self.name,
            infer_outputs=[output],
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


def _described(tensor: Any) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return {"name": tensor.name, "datatype": "FP32", "shape": shape}


if __name__ == "__main__":
    file, name, http, grpc = sys.argv[1:]
    server = ModelServer(http_port=int(http), grpc_port=int(grpc), workers=1, enable_latency_logging=False)
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    server.start([Onnx(name, file)])
