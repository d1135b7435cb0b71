"""The JSON of every body as JSON Schema, by the names that the OpenAPI document refers to."""

from typing import Any

from clearweight.service.core.datatypes import DATATYPES

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """Refer to one of ``SCHEMAS``."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    found: Schema = {"type": "object", "properties": properties}
    return found | ({"required": list(required)} if required else {})


def _list(items: Schema, at_least: int = 0, **more: Any) -> Schema:
    found: Schema = {"type": "array", "items": items, **more}
    return found | ({"minItems": at_least} if at_least else {})


_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "minLength": 1}
_NUMBER: Schema = {"type": "number"}
_INTEGER: Schema = {"type": "integer"}
_TRUTH: Schema = {"type": "boolean"}
_MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
_DATA = _list({}, description="Row-major, flat or nested.")

_TENSOR = _object(
    ("name", "datatype", "shape"),
    name=_NAME,
    datatype=_NAME,
    shape=_list(_INTEGER, description="-1 is a variable dimension."),
)
_INPUT = _object(
    ("name", "shape", "datatype"),
    name={**_NAME, "description": "The model's own; to explain also `target` and `baseline`."},
    shape=_list({"type": "integer", "minimum": 1}, 1),
    datatype={
        "type": "string",
        "enum": list(DATATYPES),
        "description": "The model's own or its raw one; BYTES for pictures (PNG, JPEG) and series (CSV, JSON text).",
    },
    parameters=ref("Parameters"),
    data={
        **_DATA,
        "description": "Absent when the tensor is binary: then `parameters.binary_data_size` is given.",
    },
)
_OUTPUT = _object(
    ("name", "shape", "datatype"),
    name=_NAME,
    shape=_list({"type": "integer", "minimum": 0}),
    datatype={"type": "string", "enum": list(DATATYPES)},
    parameters=ref("Parameters"),
    data=_DATA,
)
_ASKED_PARAMETERS: Schema = {
    "type": "object",
    "description": "Keys that nobody knows are passed over.",
    "properties": {
        "method": {"type": "string", "description": "To explain: one of the model's explainers."},
        "target": {
            "type": "integer",
            "minimum": -1,
            "description": "Class to explain; -1 the predicted one.",
        },
        "steps": {"type": "integer", "minimum": 1, "description": "Path points, draws or masks."},
        "baseline": {"type": "string", "enum": ["zero", "black", "input", "none"]},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "preprocess": {"type": "boolean", "description": "The input is raw though its type is the model's."},
        "classification": {
            "type": "integer",
            "minimum": 1,
            "description": "So many of the likeliest classes.",
        },
        "picture": {"type": "string", "enum": ["heatmap", "overlay"]},
        "resize": {"type": "string", "enum": ["stretch", "crop"]},
        "pixels": {"type": "string", "enum": ["byte", "unit"]},
        "binary_data_output": {"type": "boolean"},
    },
    "additionalProperties": ref("Scalar"),
}
_B64 = _object(("b64",), b64={"type": "string", "contentEncoding": "base64"})
_ROW: Schema = {
    "anyOf": [_NUMBER, _TEXT, _B64, _list({}), {"type": "object"}],
    "description": "Numbers, nested or flat; text of numbers; a picture in base64; or these by input name.",
}

SCHEMAS: dict[str, Schema] = {
    "Error": _object(("error",), error=_NAME) | {"additionalProperties": False},
    "Scalar": {"type": ["string", "number", "boolean"]},
    "Parameters": {"type": "object", "additionalProperties": ref("Scalar")},
    "InferParameters": _ASKED_PARAMETERS,
    "InferRequest": _object(
        ("inputs",),
        id=_TEXT,
        parameters=ref("InferParameters"),
        inputs=_list(_INPUT, 1),
        outputs=_list(_object(("name",), name=_NAME, parameters=ref("Parameters"))),
    ),
    "InferResponse": _object(
        ("model_name", "model_version", "outputs"),
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        parameters=ref("Parameters"),
        outputs=_list(_OUTPUT),
    ),
    "V1Request": {
        "type": "object",
        "properties": {
            "instances": _list(_ROW, 1),
            "inputs": {"anyOf": [_list(_ROW, 1), {"type": "object"}]},
            "target": _list(
                {"type": "integer", "minimum": -1}, 1, description="To explain: a class per row."
            ),
            "baseline": _list({}, 1, description="To explain: one row, or one per instance."),
            "parameters": ref("InferParameters"),
        },
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
    },
    "V1Response": _object(
        ("predictions",),
        predictions=_list({}),
        explanations=_list({}),
        classes=_list(
            _list(
                _object(
                    ("class", "label", "probability"), **{"class": _INTEGER}, label=_TEXT, probability=_NUMBER
                )
            )
        ),
        pictures=_list(_object(("b64", "scale"), b64=_TEXT, scale=_NUMBER)),
    ),
    "Form": {
        "type": "object",
        "description": "A part for each row under the input's name; other fields are parameters.",
        "additionalProperties": {"type": "string"},
    },
    "Live": _object(("live",), live={"const": True}),
    "Ready": _object(("ready", "live"), ready={"const": True}, live={"const": True}),
    "Server": _object(("name", "version", "extensions"), name=_NAME, version=_NAME, extensions=_list(_NAME)),
    "Models": _object(("models",), models=_list(_NAME)),
    "ModelReady": _object(("name", "ready"), name=_NAME, ready={"const": True}),
    "Model": _object(
        ("name", "versions", "platform", "inputs", "outputs", "properties"),
        name=_NAME,
        versions=_list(_NAME, 1),
        platform=_NAME,
        inputs=_list(_TENSOR, 1),
        outputs=_list(_TENSOR, 1),
        properties={"type": "object", "additionalProperties": _TEXT},
    ),
    "Drift": _object(
        ("model", "version", "ready", "reason", "fidelity", "integrity", "drift"),
        model=_NAME,
        version=_NAME,
        ready=_TRUTH,
        reason=_TEXT,
        fidelity={"anyOf": [{"type": "null"}, _object(("state", "reason"), state=_NAME, reason=_TEXT)]},
        integrity={
            "anyOf": [
                {"type": "null"},
                _object(
                    ("state", "reason", "canaries", "logits_error", "limit"),
                    state=_NAME,
                    reason=_TEXT,
                    canaries=_INTEGER,
                    logits_error=_MAYBE_NUMBER,
                    map_cosine=_MAYBE_NUMBER,
                    limit={"type": "object"},
                ),
            ]
        },
        drift=_object(
            ("state", "reason", "source", "share"), state=_NAME, reason=_TEXT, source=_NAME, share=_NUMBER
        ),
    ),
    "RepositoryIndexRequest": _object(ready={**_TRUTH, "description": "Only what is ready."}),
    "RepositoryIndex": _list(
        _object(
            ("name", "version", "state", "reason"),
            name=_NAME,
            version=_TEXT,
            state={"type": "string", "enum": ["UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING"]},
            reason=_TEXT,
        )
    ),
    "RepositoryRequest": _object(parameters=ref("Parameters")),
    "Nothing": {"type": "object", "maxProperties": 0},
}
