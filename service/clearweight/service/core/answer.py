"""One request on one model: check, run, name the tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.model import Explained, Model
from clearweight.service.core.parameters import (
    TARGET,
    ExplainOptions,
    classes,
    explain_options,
    row_targets,
    split_target,
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
    options = explain_options(model.manifest, request.parameters, limits)
    inputs, target = split_target(request.inputs)
    feed = model_feed(model, inputs, request.parameters)
    rows = len(next(iter(feed.values())))
    targets = row_targets(target, options, rows, classes(model.manifest), both=TARGET in request.parameters)
    known = [MAP, *model.output_names, TARGET]
    if options.explainer.completeness:
        known.append(COMPLETENESS)
    wanted = check_outputs(known, request.outputs)
    found = model.explain(feed, targets, options.method)
    tensors = _tensors(model, found)
    response = InferResponse(
        model.name,
        model.version,
        tuple(tensors[name] for name in wanted),
        parameters=_parameters(model, options, drift_state),
        id=request.id,
    )
    return response, feed, found


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
