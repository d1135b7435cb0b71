"""Operations as gRPC messages of the Open Inference Protocol, and answers back; sends nothing."""

from typing import Any

from clearweight.client.datatype import datatype_of, from_raw, to_raw
from clearweight.client.errors import InvalidRequestError
from clearweight.client.operation import Drift, Infer, Inferred, Metadata, Models, Operation, Ready, Scalar
from clearweight.client.protobuf import Fields, field, parse, varint
from clearweight.client.rest import metadata

_OIP, _OURS = "/inference.GRPCInferenceService/", "/clearweight.v1.ExplainService/"

_PARAMETER: Fields = {1: ("bool", "bool"), 2: ("int", "int"), 3: ("text", "text"), 4: ("double", "double")}
_ENTRY: Fields = {1: ("key", "text"), 2: ("value", _PARAMETER)}
_TEXT_ENTRY: Fields = {1: ("key", "text"), 2: ("value", "text")}
_TENSOR: Fields = {1: ("name", "text"), 2: ("datatype", "text"), 3: ("shape", ["int"])}
_INFERRED: Fields = {
    1: ("model_name", "text"),
    2: ("model_version", "text"),
    4: ("parameters", [_ENTRY]),
    5: ("outputs", [_TENSOR]),
    6: ("raw", ["bytes"]),
}
_METADATA: Fields = {
    1: ("name", "text"),
    2: ("versions", ["text"]),
    3: ("platform", "text"),
    4: ("inputs", [_TENSOR]),
    5: ("outputs", [_TENSOR]),
    6: ("properties", [_TEXT_ENTRY]),
}
_READY: Fields = {1: ("ready", "bool")}


def _numbered(**kinds: Any) -> Fields:
    return {number: (name, kind) for number, (name, kind) in enumerate(kinds.items(), start=1)}


_DRIFT = _numbered(
    model="text",
    version="text",
    ready="bool",
    reason="text",
    fidelity=_numbered(
        state="text",
        reason="text",
        cosine="double",
        min_attribution_similarity="double",
        accuracy_drop="double",
        max_accuracy_drop="double",
        retrain_floor="double",
        canary_cosine="double",
        canary_bound="double",
    ),
    integrity=_numbered(
        state="text",
        reason="text",
        canaries="int",
        logits_error="double",
        logits_atol="double",
        map_cosine="double",
        map_cosine_min="double",
        map_q999="double",
        map_q999_max="double",
    ),
    drift=_numbered(
        state="text",
        reason="text",
        source="text",
        share="double",
        compared="int",
        undefined="int",
        disagreements="int",
        sampled_out="int",
        dropped="int",
        comparisons_per_second="double",
        false_alarm_interval_days="double",
        last_sample_timestamp_seconds="double",
        series=[
            _numbered(
                metric="text",
                detector="text",
                statistic="double",
                warning_limit="double",
                limit="double",
                state="text",
                alarms="int",
            )
        ],
    ),
)


def encode(operation: Operation) -> tuple[str, bytes]:
    """Write an operation: full method name, message.

    Raises
    ------
    InvalidRequestError
        The protocol has no such method over gRPC.
    """
    if isinstance(operation, Infer):
        return f"{_OIP}ModelInfer", _infer(operation)
    if isinstance(operation, Models):
        raise InvalidRequestError("Over gRPC the models cannot be listed: name the model.")
    if isinstance(operation, Ready) and operation.model is None:
        return f"{_OIP}ServerReady", b""
    methods = {Ready: f"{_OIP}ModelReady", Metadata: f"{_OIP}ModelMetadata", Drift: f"{_OURS}Drift"}
    return methods[type(operation)], field(1, operation.model or "") + field(2, operation.version or "")


def _infer(operation: Infer) -> bytes:
    parameters = {**operation.parameters, **({"explain": True} if operation.verb == "explain" else {})}
    parts = [field(1, operation.model), field(2, operation.version or "")]
    parts += [field(4, field(1, key) + field(2, _parameter(value))) for key, value in parameters.items()]
    for name, values in operation.inputs.items():
        shape = b"".join(varint(size) for size in values.shape)
        parts.append(field(5, field(1, name) + field(2, datatype_of(values)) + field(3, shape)))
    parts += [field(7, to_raw(values)) for values in operation.inputs.values()]
    return b"".join(parts)


def _parameter(value: Scalar) -> bytes:
    numbers = {bool: 1, int: 2, str: 3, float: 4}
    return field(numbers[type(value)], value)


def decode(operation: Operation, message: bytes) -> Any:
    """Read an answer."""
    if isinstance(operation, Infer):
        return _inferred(message)
    if isinstance(operation, Ready):
        return bool(parse(_READY, message)["ready"])
    if isinstance(operation, Drift):
        return parse(_DRIFT, message)
    document = parse(_METADATA, message)
    document["properties"] = {entry["key"]: entry["value"] or "" for entry in document["properties"]}
    return metadata(document)


def _inferred(message: bytes) -> Inferred:
    document = parse(_INFERRED, message)
    tensors = {
        entry["name"]: from_raw(entry["datatype"], entry["shape"], raw)
        for entry, raw in zip(document["outputs"], document["raw"], strict=True)
    }
    # The one field of a parameter that is there holds its value.
    parameters = {
        entry["key"]: next(item for item in entry["value"].values() if item is not None)
        for entry in document["parameters"]
    }
    return Inferred(document["model_name"], document["model_version"] or "", tensors, parameters)
