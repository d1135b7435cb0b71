"""Operations as HTTP requests of the Open Inference Protocol with binary tensors, and answers back; sends nothing."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from clearweight.client.datatype import datatype_of, from_raw, to_raw
from clearweight.client.errors import STATUS, ClientError, OverloadedError, ServerError
from clearweight.client.operation import (
    Drift,
    Infer,
    Inferred,
    Metadata,
    ModelMetadata,
    Models,
    Operation,
    Ready,
    TensorSpec,
)

HEADER_LENGTH = "Inference-Header-Content-Length"
TIMEOUT = "X-Request-Timeout"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What goes out."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes = b""


def encode(operation: Operation) -> HttpRequest:
    """Write an operation."""
    if isinstance(operation, Infer):
        return _infer(operation)
    if isinstance(operation, Models):
        return HttpRequest("GET", "/v2/models", {})
    if isinstance(operation, Ready) and operation.model is None:
        return HttpRequest("GET", "/v2/health/ready", {})
    ends = {Ready: "/ready", Metadata: "", Drift: "/drift"}
    path = _path(operation.model or "", operation.version) + ends[type(operation)]
    return HttpRequest("GET", path, {})


def _path(model: str, version: str | None) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def _infer(operation: Infer) -> HttpRequest:
    raws = {name: to_raw(values) for name, values in operation.inputs.items()}
    document = {
        "inputs": [
            {
                "name": name,
                "datatype": datatype_of(values),
                "shape": list(values.shape),
                "parameters": {"binary_data_size": len(raws[name])},
            }
            for name, values in operation.inputs.items()
        ],
        "parameters": {**operation.parameters, "binary_data_output": True},
    }
    head = json.dumps(document).encode()
    headers = {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    end = "explain" if operation.verb == "explain" else "infer"
    path = f"{_path(operation.model, operation.version)}/{end}"
    return HttpRequest("POST", path, headers, b"".join((head, *raws.values())))


def decode(operation: Operation, status: int, headers: dict[str, str], content: bytes) -> Any:
    """Read an answer.

    Raises
    ------
    ClientError
        The one that the status stands for.
    """
    if isinstance(operation, Ready) and status == 503:
        return False
    if status != 200:
        raise failure(status, headers, content)
    if isinstance(operation, Ready):
        return True
    if isinstance(operation, Infer):
        return _inferred(headers, content)
    document = json.loads(content)
    if isinstance(operation, Models):
        return tuple(document["models"])
    return document if isinstance(operation, Drift) else metadata(document)


def metadata(document: dict[str, Any]) -> ModelMetadata:
    """Read a model's metadata."""
    specs = {
        side: tuple(
            TensorSpec(entry["name"], entry["datatype"], tuple(entry["shape"])) for entry in document[side]
        )
        for side in ("inputs", "outputs")
    }
    return ModelMetadata(
        document["name"],
        tuple(document.get("versions", ())),
        document["platform"],
        specs["inputs"],
        specs["outputs"],
        document.get("properties", {}),
    )


def _inferred(headers: dict[str, str], content: bytes) -> Inferred:
    at = int(headers[HEADER_LENGTH.lower()])
    document, view, tensors = json.loads(content[:at]), memoryview(content), {}
    for entry in document["outputs"]:
        end = at + entry["parameters"]["binary_data_size"]
        tensors[entry["name"]] = from_raw(entry["datatype"], entry["shape"], view[at:end])
        at = end
    version = document.get("model_version", "")
    return Inferred(document["model_name"], version, tensors, document.get("parameters", {}))


def failure(status: int, headers: dict[str, str], content: bytes) -> ClientError:
    """Return the error that an answer stands for, with the sentence that the service gave."""
    try:
        text = str(json.loads(content)["error"])
    except (ValueError, LookupError, TypeError):
        text = f"HTTP status {status}."
    error = STATUS.get(status, ServerError)(text)
    if isinstance(error, OverloadedError):
        seconds = headers.get("retry-after", "")
        error.retry_after = float(seconds) if seconds.isdigit() else None
    return error
