"""The reference on another machine, over gRPC: the same question as over REST, the same answer.

A channel of gRPC waits ever longer before it connects again; this one is closed after a failure, so that the next
comparison finds out anew whether the other side is back.
"""

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from clearweight.service.drift.remote_options import RemoteOptions, RemoteReferenceError
from clearweight.service.drift.remote_reference import MAP, Reference, tensor_name, tensor_values
from clearweight.service.rpc.generated import open_inference_pb2 as oip

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
# Maps of a few pictures are beyond gRPC's usual four megabytes.
_LIMITS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class RpcReference(Reference):
    """A reference called over one channel that is kept while it answers."""

    def __init__(self, options: RemoteOptions, model: str, version: str, output: str) -> None:
        super().__init__(options, model, version, output)
        self._channel: grpc.Channel | None = None

    def close(self) -> None:
        """Hang up."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _ask(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        try:
            return _tensors(self._call(self._request(tensors)))
        except grpc.RpcError as error:
            code, details = error.code().name, error.details()
            raise RemoteReferenceError(f"{self._options.url} answered {code}: {details}") from error

    def _request(self, tensors: Mapping[str, NDArray[Any]]) -> oip.ModelInferRequest:
        request = oip.ModelInferRequest(model_name=self._model, model_version=self._version)
        request.parameters["explain"].bool_param = True
        for name, values in tensors.items():
            request.inputs.add(name=name, datatype=tensor_name(values), shape=values.shape)
            request.raw_input_contents.append(np.ascontiguousarray(values).tobytes())
        for name in (MAP, self._output):
            request.outputs.add(name=name)
        return request

    def _call(self, request: oip.ModelInferRequest) -> oip.ModelInferResponse:
        if self._channel is None:
            self._channel = self._connect()
        token = self._token()
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        call = self._channel.unary_unary(
            _METHOD,
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        answer: oip.ModelInferResponse = call(
            request, timeout=self._options.timeout_seconds, metadata=metadata
        )
        return answer

    def _connect(self) -> grpc.Channel:
        options = self._options
        if options.scheme == "grpc":
            return grpc.insecure_channel(options.address, _LIMITS)
        roots, key, chain = (
            None if file is None else file.read_bytes()
            for file in (options.ca_file, options.key_file, options.certificate_file)
        )
        return grpc.secure_channel(options.address, grpc.ssl_channel_credentials(roots, key, chain), _LIMITS)


def _tensors(answer: oip.ModelInferResponse) -> dict[str, NDArray[Any]]:
    return {
        entry.name: tensor_values(entry.datatype, list(entry.shape), raw)
        for entry, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }
