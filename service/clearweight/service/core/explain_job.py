"""An explain request: checked when it comes, run alone or with others, its rows named for the reply."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.explain_inputs import BASELINE
from clearweight.service.core.datatypes import DATATYPES
from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.explain_cost import check_cost, most_rows
from clearweight.service.core.job import Answer, Job, join, split
from clearweight.service.core.model import Explained, Model
from clearweight.service.core.model_inputs import Feed, ModelInputs
from clearweight.service.core.parameters import (
    TARGET,
    ExplainOptions,
    classes,
    explain_options,
    row_targets,
    take,
    takes_steps,
)
from clearweight.service.core.session import Halt
from clearweight.service.core.slot import Slot
from clearweight.service.core.types import InferRequest, InferResponse, Limits, Scalar, Tensor
from clearweight.service.core.validation import check_outputs

MAP = "explain"
COMPLETENESS = "completeness_error"


class ExplainJob(Job):
    """An explain request.

    Parameters
    ----------
    slot : the version it was sent to
    model : its model, or its reference
    drift_state : for the reply

    Raises
    ------
    InvalidRequestError, UnsupportedError
        It contradicts the model's metadata, or the model has no explainers.
    TooLargeError
        It would take more than the limits allow.
    """

    def __init__(
        self, slot: Slot, model: Model, request: InferRequest, limits: Limits, drift_state: str
    ) -> None:
        self.slot, self.model, self.identifier, self.drift_state = slot, model, request.id, drift_state
        tensors, target = take(request.inputs, TARGET)
        tensors, own = take(tensors, BASELINE)
        parameters = request.parameters
        options = explain_options(model.manifest, parameters, limits, own_baseline=own is not None)
        self.options, self.inputs = options, ModelInputs(model, tensors, parameters)
        shape = self.inputs.shape
        self.rows = shape[0]
        count = classes(model.manifest)
        self.target = row_targets(target, options, self.rows, count, both=TARGET in parameters)
        check_cost(options, shape, limits)
        known = [MAP, *model.output_names, TARGET]
        if options.explainer.completeness:
            known.append(COMPLETENESS)
        self.wanted = check_outputs(known, request.outputs)
        self._baseline = None if own is None else _own_baseline(model, own, shape, parameters)
        # What is drawn from the seed is shared by all rows of a run; a baseline belongs to its rows.
        drawn = (options.steps, options.seed) if takes_steps(options.explainer) else ()
        self.key = (model, options.method, drawn, self.inputs.row_shapes) if model.joins_rows else self
        self.most_rows = most_rows(options, shape, limits)
        self.seconds = model.seconds(self.rows, options.method, options.steps)

    def run(self, others: Sequence[Self], halt: Halt | None = None) -> list[Answer]:
        """Run all of them in one batch."""
        if not others:
            feed, further = self.inputs.feed(), self.own_inputs() | self._shared_inputs()
            method, steps = self.options.method, self.options.steps
            alone = self.model.explain(feed, self.target, method, further, steps=steps, halt=halt)
            return [self.answer(feed, alone)]
        jobs = (self, *others)
        feeds = [job.inputs.feed() for job in jobs]
        further = join([job.own_inputs() for job in jobs]) | self._shared_inputs()
        target = join([{TARGET: job.target} for job in jobs])[TARGET]
        method, steps = self.options.method, self.options.steps
        found = self.model.explain(join(feeds), target, method, further, steps=steps, halt=halt)
        parts = [split(values, jobs) for values in (found.map, found.target, *found.outputs)]
        errors: Sequence[NDArray[Any] | None] = [None] * len(jobs)
        if found.completeness_error is not None:
            errors = split(found.completeness_error, jobs)
        return [
            job.answer(feed, Explained(map_, outputs, resolved, error))
            for job, feed, error, (map_, resolved, *outputs) in zip(
                jobs, feeds, errors, zip(*parts, strict=True), strict=True
            )
        ]

    def own_inputs(self) -> Feed:
        """Return the further inputs that belong to this job's rows: its baseline, where the method takes one."""
        if BASELINE not in self.options.explainer.inputs:
            return {}
        return self.model.baseline(self.options.method, self.inputs.shape, self._compared_with())

    def _shared_inputs(self) -> Feed:
        options = self.options
        return self.model.drawn_inputs(
            options.method, self.inputs.shape, steps=options.steps, seed=options.seed
        )

    def _compared_with(self) -> NDArray[np.float32] | None:
        """Return what the map compares the input with, None for zero."""
        if self._baseline is not None:
            return self._baseline.feed()[self.model.input_names[0]]
        if self.options.baseline != "black":
            return None
        raw = self.model.manifest.preprocessing.raw_datatype
        return self.model.prepare(np.zeros((1, *self.inputs.shape[1:]), DATATYPES[raw].dtype))

    def answer(self, feed: Feed, found: Explained) -> Answer:
        """Name what came out."""
        tensors = _tensors(self.model, found)
        response = InferResponse(
            self.model.name,
            self.model.version,
            tuple([tensors[name] for name in self.wanted]),
            parameters=_parameters(self.model, self.options, self.drift_state),
            id=self.identifier,
        )
        return Answer(response, feed, found)


def _own_baseline(
    model: Model, own: Tensor, shape: tuple[int, ...], parameters: Mapping[str, Scalar]
) -> ModelInputs:
    """Check the caller's baseline, which is read like an input."""
    name = model.input_names[0]
    try:
        given = ModelInputs(model, [replace(own, name=name)], parameters)
    except InvalidRequestError as error:
        raise InvalidRequestError(str(error).replace(repr(name), repr(BASELINE), 1)) from None
    if given.shape[0] not in (1, shape[0]) or given.shape[1:] != shape[1:]:
        raise InvalidRequestError(
            f"Input {BASELINE!r} has shape {list(given.shape)}, expected {list(shape)} or one row of it."
        )
    return given


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
