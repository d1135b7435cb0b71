"""One request on one model: check, run, name the tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.explain_inputs import BASELINE
from clearweight.service.core.datatypes import DATATYPES
from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.explain_cost import check_cost
from clearweight.service.core.model import Explained, Model
from clearweight.service.core.parameters import (
    TARGET,
    ExplainOptions,
    classes,
    explain_options,
    row_targets,
    take,
)
from clearweight.service.core.types import InferRequest, InferResponse, Limits, Scalar, Tensor
from clearweight.service.core.validation import check_inputs, check_outputs

MAP = "explain"
COMPLETENESS = "completeness_error"


def model_feed(
    model: Model, inputs: Sequence[Tensor], parameters: Mapping[str, Scalar]
) -> dict[str, NDArray[Any]]:
    """Return the graph's inputs for a request.

    Tensors are the graph's own unless they come in the manifest's raw datatype where that is another one, or the
    parameter ``preprocess`` is true: then the manifest's preprocessing is applied first.
    """
    specs, raw = model.manifest.inputs, model.manifest.preprocessing.raw_datatype
    alone = len(specs) == 1
    feed = check_inputs(specs, inputs, raw_datatype=raw if alone else None)
    asked = parameters.get("preprocess", False)
    if not isinstance(asked, bool):
        raise InvalidRequestError(f"Parameter 'preprocess' is {asked!r}, expected a boolean.")
    if not asked and (not alone or inputs[0].datatype == specs[0].datatype):
        return feed
    if not alone or inputs[0].datatype != raw:
        raise InvalidRequestError(f"Preprocessing takes one {raw} input, found {inputs[0].datatype}.")
    return {specs[0].name: model.prepare(feed[specs[0].name])}


def predict(model: Model, request: InferRequest) -> tuple[InferResponse, dict[str, NDArray[Any]]]:
    """Answer a predict request; returns the reply and the graph's inputs."""
    feed = model_feed(model, request.inputs, request.parameters)
    wanted = check_outputs(model.output_names, request.outputs)
    outputs = dict(zip(model.output_names, model.predict(feed), strict=True))
    types = model.output_datatypes
    tensors = tuple(Tensor(name, types[name], outputs[name]) for name in wanted)
    return InferResponse(model.name, model.version, tensors, id=request.id), feed


def explain(
    model: Model, request: InferRequest, limits: Limits, drift_state: str
) -> tuple[InferResponse, dict[str, NDArray[Any]], Explained]:
    """Answer an explain request; returns the reply, the graph's inputs and the run itself."""
    inputs, target = take(request.inputs, TARGET)
    inputs, own = take(inputs, BASELINE)
    options = explain_options(model.manifest, request.parameters, limits, own_baseline=own is not None)
    feed = model_feed(model, inputs, request.parameters)
    shape = next(iter(feed.values())).shape
    targets = row_targets(
        target, options, shape[0], classes(model.manifest), both=TARGET in request.parameters
    )
    check_cost(options, shape, limits)
    known = [MAP, *model.output_names, TARGET]
    if options.explainer.completeness:
        known.append(COMPLETENESS)
    wanted = check_outputs(known, request.outputs)
    baseline = _baseline(model, options, own, shape, request.parameters)
    further = model.further_inputs(
        options.method, shape, steps=options.steps, seed=options.seed, baseline=baseline
    )
    found = model.explain(feed, targets, options.method, further, steps=options.steps)
    tensors = _tensors(model, found)
    response = InferResponse(
        model.name,
        model.version,
        tuple(tensors[name] for name in wanted),
        parameters=_parameters(model, options, drift_state),
        id=request.id,
    )
    return response, feed, found


def _baseline(
    model: Model,
    options: ExplainOptions,
    own: Tensor | None,
    shape: tuple[int, ...],
    parameters: Mapping[str, Scalar],
) -> NDArray[np.float32] | None:
    """Return what the map compares the input with, None for zero: the caller's tensor is read like an input."""
    if own is not None:
        name = model.input_names[0]
        try:
            given = model_feed(model, [replace(own, name=name)], parameters)[name]
        except InvalidRequestError as error:
            raise InvalidRequestError(str(error).replace(repr(name), repr(BASELINE), 1)) from None
        if given.shape[0] not in (1, shape[0]) or given.shape[1:] != shape[1:]:
            raise InvalidRequestError(
                f"Input {BASELINE!r} has shape {list(given.shape)}, expected {list(shape)} or one row of it."
            )
        return given
    if options.baseline != "black":
        return None
    raw = model.manifest.preprocessing.raw_datatype
    return model.prepare(np.zeros((1, *shape[1:]), DATATYPES[raw].dtype))


def _tensors(model: Model, found: Explained) -> dict[str, Tensor]:
    tensors = {MAP: Tensor(MAP, "FP32", found.map)}
    for name, values in zip(model.output_names, found.outputs, strict=True):
        tensors[name] = Tensor(name, model.output_datatypes[name], values)
    tensors[TARGET] = Tensor(TARGET, "INT64", found.target)
    if found.completeness_error is not None:
        tensors[COMPLETENESS] = Tensor(COMPLETENESS, "FP32", found.completeness_error)
    return tensors


def _parameters(model: Model, options: ExplainOptions, drift_state: str) -> dict[str, Scalar]:
    explainer = options.explainer
    return {
        "method": options.method,
        "baseline": options.baseline,
        "steps": options.steps,
        "seed": options.seed,
        "gradient_ste": explainer.gradient_ste,
        "explainer_sha256": model.manifest.files[explainer.file].sha256,
        "model_sha256": model.sha256,
        "resolution": explainer.resolution,
        "fidelity": model.fidelity.state,
        "drift_state": drift_state,
    }
