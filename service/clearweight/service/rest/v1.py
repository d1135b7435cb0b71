"""KServe V1 bodies: ``instances`` or ``inputs`` in, ``predictions`` (and ``explanations``) out."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import orjson

from clearweight.artifact import TensorSpec
from clearweight.artifact.explain_inputs import BASELINE
from clearweight.service.core.classification import NAMES
from clearweight.service.core.datatypes import DATATYPES, from_json, to_json
from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.parameters import TARGET
from clearweight.service.core.presentation import PICTURE, PICTURE_SCALE
from clearweight.service.core.types import InferRequest, InferResponse, Limits, Tensor
from clearweight.service.core.validation import check_parameters, check_shape
from clearweight.service.rest.oip import parse_object

# What a V1 body may hold beside its rows when it asks for an explanation: a class per row, rows to compare with.
_BESIDE = (TARGET, BASELINE)


def decode_v1(
    model: str, specs: Sequence[TensorSpec], body: bytes, limits: Limits, *, explain: bool = False
) -> InferRequest:
    """Read a V1 body; the model's metadata gives names and types, the nesting gives the batch.

    ``instances`` is a list of rows, each one a nested or flat list, or an object of input names for a model with
    several inputs. ``inputs`` is the same by columns: one batch, or an object of batches. With ``explain``, ``target``
    may list a class per row, and ``baseline`` one row or as many as there are instances.

    Raises
    ------
    InvalidRequestError
        Neither key or both, an empty list, or rows that do not fit the metadata.
    """
    document = parse_object(body)
    if ("instances" in document) == ("inputs" in document):
        raise InvalidRequestError("A V1 body has either 'instances' or 'inputs'.")
    columns = (
        _columns(specs, document["instances"], rows=True)
        if "instances" in document
        else _columns(specs, document["inputs"], rows=False)
    )
    tensors = tuple(_tensor(spec, columns[spec.name], limits) for spec in specs)
    for name in _BESIDE if explain else ():
        if name in document:
            rows = document[name]
            if not isinstance(rows, list) or not rows:
                raise InvalidRequestError(f"{name!r} is no list of rows.")
            spec = TensorSpec(TARGET, "INT64", (-1,)) if name == TARGET else replace(specs[0], name=name)
            tensors = (*tensors, _tensor(spec, rows, limits))
    return InferRequest(
        model, None, tensors, parameters=check_parameters(document.get("parameters", {}), "the request")
    )


def _columns(specs: Sequence[TensorSpec], data: object, *, rows: bool) -> dict[str, list[Any]]:
    names = [spec.name for spec in specs]
    named = (
        isinstance(data, list) and data and all(isinstance(row, dict) and set(row) != {"b64"} for row in data)
    )
    if rows and named and isinstance(data, list):
        if any(set(row) != set(names) for row in data):
            raise InvalidRequestError(f"Every instance names the inputs {', '.join(names)} and no other.")
        return {name: [row[name] for row in data] for name in names}
    if not rows and isinstance(data, dict):
        if set(data) != set(names):
            raise InvalidRequestError(f"'inputs' names {', '.join(data)}, expected {', '.join(names)}.")
        columns = data
    elif len(names) == 1:
        columns = {names[0]: data}
    else:
        raise InvalidRequestError(f"The model has several inputs, name them: {', '.join(names)}.")
    for name, column in columns.items():
        if not isinstance(column, list) or not column:
            raise InvalidRequestError(f"Input {name!r} is no list of rows.")
    return columns


def _encoded(spec: TensorSpec, rows: list[Any]) -> Tensor | None:
    """Return rows of ``{"b64": ...}`` or of text as BYTES; None where the first row is numbers."""
    if not isinstance(rows[0], dict | str):
        return None
    values = np.empty(len(rows), dtype=object)
    for index, row in enumerate(rows):
        text = row.get("b64") if isinstance(row, dict) and len(row) == 1 else row
        if not isinstance(text, str) or type(row) is not type(rows[0]):
            raise InvalidRequestError(
                f'Row {index} of input {spec.name!r} is neither text nor {{"b64": text}}.'
            )
        try:
            values[index] = text.encode() if row is text else base64.b64decode(text, validate=True)
        except ValueError as error:
            raise InvalidRequestError(f"Row {index} of input {spec.name!r} is no base64: {error}.") from None
    return Tensor(spec.name, "BYTES", values)


def _tensor(spec: TensorSpec, rows: list[Any], limits: Limits) -> Tensor:
    encoded = _encoded(spec, rows)
    if encoded is not None:
        return encoded
    sizes = _sizes(rows, len(spec.shape))
    shape = [len(rows)]
    for axis, declared in enumerate(spec.shape[1:], start=1):
        shape.append(sizes[axis] if declared == -1 and axis < len(sizes) else declared)
    checked = check_shape(spec.name, shape, limits)
    flat_row = len(sizes) == 2 and len(checked) > 2 and sizes[1] == prod(checked[1:])
    nesting = (checked[0], prod(checked[1:])) if flat_row else checked
    if not flat_row and len(checked) > 1 and not isinstance(rows[0], list):
        raise InvalidRequestError(f"Input {spec.name!r} is a flat list, expected one list per row.")
    values = from_json(spec.name, DATATYPES[spec.datatype], nesting, rows)
    return Tensor(spec.name, spec.datatype, values.reshape(checked))


def _sizes(data: object, depth: int) -> list[int]:
    sizes: list[int] = []
    while isinstance(data, list) and len(sizes) < depth:
        sizes.append(len(data))
        data = data[0] if data else None
    return sizes


def encode_v1(response: InferResponse, outputs: Sequence[str]) -> bytes:
    """Write a V1 reply: the model's own outputs as ``predictions``, a map as ``explanations``.

    One output gives rows of numbers, several give rows of objects by output name. Where they were asked for,
    ``classes`` holds the likeliest classes of each row with label and probability, ``pictures`` a PNG in base64.
    """
    tensors = {tensor.name: tensor for tensor in response.outputs}
    if len(outputs) == 1:
        predictions: object = _nested(tensors[outputs[0]])
    else:
        rows = len(tensors[outputs[0]].values)
        predictions = [{name: tensors[name].values[row] for name in outputs} for row in range(rows)]
    document = {"predictions": predictions}
    if "explain" in tensors:
        document["explanations"] = _nested(tensors["explain"])
    if all(name in tensors for name in NAMES):
        columns = [tensors[name].values.tolist() for name in NAMES]
        document["classes"] = [
            [
                {"class": index, "label": label.decode(), "probability": probability}
                for index, label, probability in zip(*row, strict=True)
            ]
            for row in zip(*columns, strict=True)
        ]
    if PICTURE in tensors:
        files, scales = tensors[PICTURE].values.tolist(), tensors[PICTURE_SCALE].values.tolist()
        document["pictures"] = [
            {"b64": base64.b64encode(png).decode(), "scale": scale}
            for png, scale in zip(files, scales, strict=True)
        ]
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _nested(tensor: Tensor) -> object:
    flat = to_json(tensor.name, DATATYPES[tensor.datatype], tensor.values)
    return flat if isinstance(flat, list) else flat.reshape(tensor.values.shape)
