"""The reference on another machine, over REST with binary tensors."""

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.service.drift.remote_options import RemoteOptions, RemoteReferenceError
from clearweight.service.drift.remote_reference import MAP, Reference, tensor_name, tensor_values


class RestReference(Reference):
    """A reference called over HTTP, on one connection that is kept."""

    def __init__(self, options: RemoteOptions, model: str, version: str, output: str) -> None:
        super().__init__(options, model, version, output)
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        outputs = [{"name": name, "parameters": {"binary_data": True}} for name in (MAP, self._output)]
        head = json.dumps({"inputs": [_entry(*item) for item in tensors.items()], "outputs": outputs})
        body = head.encode() + b"".join(np.ascontiguousarray(values).tobytes() for values in tensors.values())
        try:
            return _tensors(*self._post(body, len(head)))
        except http.client.HTTPException as error:
            raise RemoteReferenceError(f"{self._options.url}: {type(error).__name__}: {error}") from error

    def _post(self, body: bytes, head: int) -> tuple[bytes, int]:
        if self._connection is None:
            self._connection = self._connect()
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(head),
        }
        if (token := self._token()) is not None:
            headers["Authorization"] = f"Bearer {token}"
        path = f"/v2/models/{self._model}/versions/{self._version}/explain"
        self._connection.request("POST", path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RemoteReferenceError(f"{self._options.url} answered {answer.status}: {content[:200]!r}")
        return content, int(answer.headers.get("Inference-Header-Content-Length", len(content)))

    def _connect(self) -> http.client.HTTPConnection:
        options, seconds = self._options, self._options.timeout_seconds
        if options.scheme == "http":
            return http.client.HTTPConnection(options.address, timeout=seconds)
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.certificate_file is not None:
            context.load_cert_chain(options.certificate_file, options.key_file)
        return http.client.HTTPSConnection(options.address, timeout=seconds, context=context)


def _entry(name: str, values: NDArray[Any]) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": tensor_name(values),
        "shape": list(values.shape),
        "parameters": {"binary_data_size": values.nbytes},
    }


def _tensors(content: bytes, head: int) -> dict[str, NDArray[Any]]:
    found, at = {}, head
    for entry in json.loads(content[:head])["outputs"]:
        size = entry["parameters"]["binary_data_size"]
        found[entry["name"]] = tensor_values(entry["datatype"], entry["shape"], content[at : at + size])
        at += size
    return found
