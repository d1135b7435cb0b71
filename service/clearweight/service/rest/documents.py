"""What OpenAPI says about the paths whose bodies are read by hand."""

from collections.abc import Mapping
from typing import Any

_TENSOR_IN = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}, "description": "Row-major, flat or nested."},
    },
}
_TENSOR_OUT = {**_TENSOR_IN, "description": "`data`, or `parameters.binary_data_size` when binary."}
_INFER = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {
            "type": "object",
            "description": "To explain: `method`, `target`, `steps`, `baseline` (zero or black), `seed`.",
        },
        "inputs": {
            "type": "array",
            "items": _TENSOR_IN,
            "minItems": 1,
            "description": "The model's own; to explain also `target` (INT64, a class per row) and `baseline`.",
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
            },
        },
    },
}
_INFERRED = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "outputs": {"type": "array", "items": _TENSOR_OUT},
    },
}
_V1 = {
    "type": "object",
    "properties": {
        "instances": {"type": "array", "items": {}},
        "inputs": {},
        "target": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "To explain: a class per row.",
        },
        "baseline": {
            "type": "array",
            "items": {},
            "description": "To explain: one row, or one per instance.",
        },
        "parameters": {"type": "object"},
    },
}
_V1_OUT = {
    "type": "object",
    "required": ["predictions"],
    "properties": {
        "predictions": {"type": "array", "items": {}},
        "explanations": {"type": "array", "items": {}},
    },
}
_ERROR = {
    "description": "What went wrong, in one sentence.",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    },
}
_HEADER = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "schema": {"type": "integer", "minimum": 0},
    "description": "Bytes of the JSON part when binary tensors follow it; 0 when the body is the one raw tensor.",
}
_BODIES = {"oip": (_INFER, _INFERRED), "v1": (_V1, _V1_OUT)}


def document(path: str, summary: str, body: str | None = None) -> dict[str, Any]:
    """Return the OpenAPI operation of a path: its parameters, and its bodies where it has any.

    Parameters
    ----------
    path : str
        Path parameters stand in braces.
    body : {"oip", "v1"}, optional
    """
    parameters: list[dict[str, Any]] = [
        {"name": part.split("}")[0], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in path.split("{")[1:]
    ]
    answer: dict[str, Any] = {"description": "The answer."}
    responses = {"200": answer, "4XX": _ERROR, "5XX": _ERROR}
    operation: dict[str, Any] = {"summary": summary, "parameters": parameters, "responses": responses}
    if body is not None:
        given, returned = _BODIES[body]
        content: dict[str, Any] = {"application/json": {"schema": given}}
        answer["content"] = {"application/json": {"schema": returned}}
        if body == "oip":
            binary = {"schema": {"type": "string", "format": "binary"}}
            content["application/octet-stream"] = answer["content"]["application/octet-stream"] = binary
            parameters.append(_HEADER)
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def openapi(title: str, version: str, paths: Mapping[str, object]) -> dict[str, Any]:
    """Return the whole OpenAPI document, paths in alphabetical order."""
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": dict(sorted(paths.items())),
    }
