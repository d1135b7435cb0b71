"""An ONNX file behind MLServer, as its documentation shows a custom runtime."""

from typing import Any

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor


class Onnx(MLModel):  # type: ignore[misc]  # untyped here
    """One input, one output, both float32; their metadata from the file."""

    async def load(self) -> bool:
        """Open the session."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = ort.InferenceSession(self.settings.parameters.uri, options)
        (source,), (result,) = self._session.get_inputs(), self._session.get_outputs()
        self.inputs, self.outputs = [_described(source)], [_described(result)]
        self._names = source.name, result.name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Decode, run, encode."""
        source, result = self._names
        x = NumpyCodec.decode_input(payload.inputs[0])
        (y,) = self._session.run(None, {source: x})
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output(result, y)],
        )


def _described(tensor: Any) -> Any:
    shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return MetadataTensor(name=tensor.name, datatype="FP32", shape=shape)
