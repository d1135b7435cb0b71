"""The reference on another machine: a clearweight service that explains what this one samples.

Inputs leave the device: so it is never a default, and who turns it on says where they go. One call at a time from the
background thread, over the Open Inference Protocol, with a timeout; whatever goes wrong costs the comparison and
nothing else. REST is here, gRPC in ``remote_rpc``.
"""

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clearweight.service.drift.remote_options import RemoteOptions, RemoteReferenceError

MAP = "explain"


class RemoteReference:
    """Explains with one model of another service, over REST with binary tensors.

    Parameters
    ----------
    options : RemoteOptions
    model, version : str
        As the other service calls them.
    output : str
        The model's output that holds the logits.
    """

    def __init__(self, options: RemoteOptions, model: str, version: str, output: str) -> None:
        self._options, self._output = options, output
        self._path = f"/v2/models/{model}/versions/{version}/explain"
        self._connection: http.client.HTTPConnection | None = None

    def explain(
        self, inputs: Mapping[str, NDArray[Any]], target: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return maps (N, ...) and logits (N, C) of the reference for these classes, -1 for its own.

        Raises
        ------
        RemoteReferenceError
            No answer in time, an error, or another form of answer. The next call connects anew.
        """
        tensors = {**inputs, "target": target}
        outputs = [{"name": name, "parameters": {"binary_data": True}} for name in (MAP, self._output)]
        head = json.dumps({"inputs": [_entry(*item) for item in tensors.items()], "outputs": outputs})
        body = head.encode() + b"".join(np.ascontiguousarray(values).tobytes() for values in tensors.values())
        try:
            found = _tensors(*self._post(body, len(head)))
            return found[MAP], found[self._output]
        except RemoteReferenceError:
            self.close()
            raise
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            self.close()
            raise RemoteReferenceError(f"{self._options.url}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, body: bytes, head: int) -> tuple[bytes, int]:
        if self._connection is None:
            self._connection = self._connect()
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(head),
        }
        if self._options.token_file is not None:
            headers["Authorization"] = f"Bearer {self._options.token_file.read_text('utf-8').strip()}"
        self._connection.request("POST", self._path, body, headers)
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


class Reference(Protocol):
    """What a reference on another machine does, whichever way it is called."""

    def explain(
        self, inputs: Mapping[str, NDArray[Any]], target: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return maps (N, ...) and logits (N, C) for these classes, -1 for its own; RemoteReferenceError else."""

    def close(self) -> None:
        """Hang up."""


def reference_at(options: RemoteOptions, model: str, version: str, output: str) -> Reference:
    """Return the reference of this model behind ``options.url``, over the protocol that its scheme names."""
    if options.scheme in ("http", "https"):
        return RemoteReference(options, model, version, output)
    # gRPC is megabytes that a device without a gRPC port or reference does without.
    from clearweight.service.drift.remote_rpc import RpcReference  # noqa: PLC0415

    return RpcReference(options, model, version, output)


class Tested:
    """A reference that is asked for the probes first: a service may answer, and yet with another model.

    Parameters
    ----------
    reference : Reference
    probes : inputs by name
    logits : (n, classes)
        What the reference answered to the probes when the artifact was exported.
    """

    def __init__(
        self, reference: Reference, probes: Mapping[str, NDArray[Any]], logits: NDArray[np.float32]
    ) -> None:
        self.reference, self._probes, self._logits = reference, probes, logits
        self._passed = False

    def __call__(
        self, inputs: Mapping[str, NDArray[Any]], target: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Explain, after the test of the first time.

        Raises
        ------
        RemoteReferenceError
            It cannot be asked, or its answers to the probes are not the reference's.
        """
        if not self._passed:
            _, found = self.reference.explain(self._probes, np.full(len(self._logits), -1, dtype=np.int64))
            scale = float(np.abs(self._logits).max(initial=0.0))
            if found.shape != self._logits.shape or not np.allclose(
                found, self._logits, rtol=0.0, atol=_KERNELS * scale
            ):
                raise RemoteReferenceError("It is not the reference that this artifact was compared with.")
            self._passed = True
        return self.reference.explain(inputs, target)

    def close(self) -> None:
        """Hang up."""
        self.reference.close()


_KERNELS = 1e-3
"""Share of the largest logit by which another processor's kernels may move one."""
_DATATYPES: dict[str, str] = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "INT32": "<i4", "FP16": "<f2"}
_NAMES = {np.dtype(code): name for name, code in _DATATYPES.items()}


def tensor_name(values: NDArray[Any]) -> str:
    """Return the protocol's name of an array's type."""
    return _NAMES[values.dtype]


def tensor_values(datatype: str, shape: list[int], raw: bytes) -> NDArray[Any]:
    """Return the array that raw bytes hold."""
    values: NDArray[Any] = np.frombuffer(raw, _DATATYPES[datatype]).reshape(shape)
    return values


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
