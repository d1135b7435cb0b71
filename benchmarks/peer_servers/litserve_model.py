"""An ONNX file behind LitServe, as its documentation shows an API; requests and replies have the protocol's JSON.

Arguments: file, port.
"""

import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime as ort


class Onnx(litserve.LitAPI):  # type: ignore[misc]  # untyped here
    """One input, one output, both float32."""

    def setup(self, device: str) -> None:
        """Open the session."""
        del device
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = ort.InferenceSession(sys.argv[1], options)
        (source,), (result,) = self._session.get_inputs(), self._session.get_outputs()
        self._names = source.name, result.name

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Take the tensor out of the JSON."""
        (tensor,) = request["inputs"]
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])

    def predict(self, x: Any) -> Any:
        """Run."""
        return self._session.run(None, {self._names[0]: x})[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Put the tensor into JSON."""
        tensor = {"name": self._names[1], "shape": list(output.shape), "datatype": "FP32"}
        return {"outputs": [tensor | {"data": output.ravel().tolist()}]}


if __name__ == "__main__":
    server = litserve.LitServer(Onnx(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        num_api_servers=1,
        log_level="error",
        generate_client_file=False,
    )
