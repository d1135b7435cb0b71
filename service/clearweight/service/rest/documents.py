"""What OpenAPI says about the paths, whose bodies are read by hand: one row per kind of operation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from clearweight.service.core.types import ModelMetadata
from clearweight.service.rest.endpoint import Row
from clearweight.service.rest.schemas import SCHEMAS, ref


@dataclass(frozen=True, slots=True)
class Document:
    """Schemas of the bodies by content type, and whether binary tensors may follow the JSON."""

    answer: Mapping[str, Any]
    body: Mapping[str, Any] | None = None
    optional: bool = False
    binary: bool = False


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": ref(name)}}


_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_OCTETS = {"application/octet-stream": _BYTES}
_INFER_BODY = _json("InferRequest") | _OCTETS | {"multipart/form-data": {"schema": ref("Form")}}

DOCUMENTS: dict[str, Document] = {
    "infer": Document(_json("InferResponse") | _OCTETS, _INFER_BODY, binary=True),
    "explain": Document(_json("InferResponse") | _OCTETS | {"image/png": _BYTES}, _INFER_BODY, binary=True),
    "v1": Document(_json("V1Response"), _json("V1Request")),
    "live": Document(_json("Live")),
    "ready": Document(_json("Ready")),
    "server": Document(_json("Server")),
    "models": Document(_json("Models")),
    "model": Document(_json("Model")),
    "model_ready": Document(_json("ModelReady")),
    "drift": Document(_json("Drift")),
    "metrics": Document(
        {
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        }
    ),
    "index": Document(_json("RepositoryIndex"), _json("RepositoryIndexRequest"), optional=True),
    "repository": Document(_json("Nothing"), _json("RepositoryRequest"), optional=True),
}

_LENGTH = "Inference-Header-Content-Length"
_HEADER_LENGTH: dict[str, Any] = {
    "name": _LENGTH,
    "in": "header",
    "required": False,
    "schema": {"type": "integer", "minimum": 0},
    "description": "Bytes of the JSON part when binary tensors follow it; 0 when the body is the one raw tensor.",
}
_TIMEOUT: dict[str, Any] = {
    "name": "X-Request-Timeout",
    "in": "header",
    "required": False,
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "description": "Seconds that the caller waits; work that nobody waits for is not done.",
}
_FAILED: dict[str, Any] = {
    "description": "What went wrong, in one sentence.",
    "headers": {
        "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds; when trying again may help."}
    },
    "content": {"application/json": {"schema": ref("Error")}},
}


def openapi(
    title: str, version: str, table: Iterable[Row], models: Sequence[ModelMetadata]
) -> dict[str, Any]:
    """Return the OpenAPI document of a table of paths, as true as the models that are loaded now.

    Parameters
    ----------
    models : those that are loaded; their names are the path parameter's values, their zero inputs the examples
    """
    paths: dict[str, dict[str, Any]] = {}
    for row in table:
        path = row.path.replace(":path}", "}")
        paths.setdefault(path, {})[row.verb.lower()] = _operation(row, path, models)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": SCHEMAS},
    }


def _operation(row: Row, path: str, models: Sequence[ModelMetadata]) -> dict[str, Any]:
    document = DOCUMENTS[row.document]
    answer: dict[str, Any] = {"description": "The answer.", "content": dict(document.answer)}
    operation: dict[str, Any] = {
        "summary": (row.answer.__doc__ or "").split("\n")[0],
        "operationId": _identifier(row.verb, path),
        "parameters": [_path_parameter(part.split("}")[0], models) for part in path.split("{")[1:]],
        "responses": {"200": answer, "4XX": _FAILED, "5XX": _FAILED},
    }
    if document.body is not None:
        content = {kind: dict(body) for kind, body in document.body.items()}
        if row.document in ("infer", "explain") and models:
            content["application/json"]["example"] = example(models[0])
        operation["requestBody"] = {"required": not document.optional, "content": content}
        if not document.optional:
            operation["parameters"].append(_TIMEOUT)
    if document.binary:
        operation["parameters"].append(_HEADER_LENGTH)
        answer["headers"] = {_LENGTH: {"schema": {"type": "integer"}, "description": "As of the request."}}
    return operation


def _identifier(verb: str, path: str) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in path).split()
    # `/v2` and `/v2/` are two paths with one answer.
    return "_".join([verb.lower(), *words, *(["slash"] if path.endswith("/") else [])])


def _path_parameter(name: str, models: Sequence[ModelMetadata]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if name == "model" and models:
        schema["enum"] = sorted({model.name for model in models})
    if name == "version" and models:
        schema["enum"] = sorted({version for model in models for version in model.versions})
    return {"name": name, "in": "path", "required": True, "schema": schema}


def example(model: ModelMetadata) -> dict[str, Any]:
    """Return a request that a model answers: its inputs, all zero."""
    shapes = {spec.name: [1 if size == -1 else size for size in spec.shape] for spec in model.inputs}
    return {
        "inputs": [
            {
                "name": spec.name,
                "shape": shapes[spec.name],
                "datatype": spec.datatype,
                "data": [0] * prod(shapes[spec.name]),
            }
            for spec in model.inputs
        ]
    }
