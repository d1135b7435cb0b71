"""One checked request that has not run, and how several of them share a run.

Checking is cheap and happens where the request arrives; preprocessing, the drawing of noise and masks, and the run
itself happen where there is time for them. Jobs of one ``key`` differ only in what belongs to their rows (inputs,
targets, baselines), so their rows can stand in one batch, and every reply is what it would have been alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clearweight.service.core.model import Explained, Model
from clearweight.service.core.model_inputs import Feed, ModelInputs
from clearweight.service.core.session import Halt
from clearweight.service.core.slot import Slot
from clearweight.service.core.types import InferRequest, InferResponse, Tensor
from clearweight.service.core.validation import check_outputs

UNBOUNDED = 1 << 62


@dataclass(slots=True, eq=False)
class Answer:
    """A reply, the graph's inputs it was computed from, and the explain run where there was one."""

    response: InferResponse
    feed: Feed
    explained: Explained | None = None


class Job(ABC):
    """One checked request.

    Attributes
    ----------
    slot : the version it was sent to
    model : that version's model, or its reference
    rows : its batch
    key : jobs of equal keys may share a run
    most_rows : rows that one run of this kind may have, by the limits of a single request
    seconds : estimate of its run
    """

    slot: Slot
    model: Model
    rows: int
    key: Hashable
    most_rows: int
    seconds: float

    @abstractmethod
    def run(self, others: Sequence[Self], halt: Halt | None = None) -> list[Answer]:
        """Run this job and others of its key in one batch; this one's answer comes first.

        ``halt`` ends the run from another thread.
        """


class PredictJob(Job):
    """A predict request.

    Raises
    ------
    InvalidRequestError
        It contradicts the model's metadata.
    """

    def __init__(self, slot: Slot, model: Model, request: InferRequest) -> None:
        self.slot, self.model, self.identifier = slot, model, request.id
        self.inputs = ModelInputs(model, request.inputs, request.parameters)
        self.wanted = check_outputs(model.output_names, request.outputs)
        self.rows = self.inputs.shape[0]
        self.key = (model, self.inputs.row_shapes) if model.joins_rows else self
        self.most_rows = UNBOUNDED
        self.seconds = model.seconds(self.rows)

    def run(self, others: Sequence[Self], halt: Halt | None = None) -> list[Answer]:
        """Run all of them in one batch."""
        if not others:
            feed = self.inputs.feed()
            return [self.answer(feed, self.model.predict(feed, halt=halt))]
        jobs = (self, *others)
        feeds = [job.inputs.feed() for job in jobs]
        outputs = self.model.predict(join(feeds), halt=halt)
        parts = zip(*(split(values, jobs) for values in outputs), strict=True)
        return [job.answer(feed, part) for job, feed, part in zip(jobs, feeds, parts, strict=True)]

    def answer(self, feed: Feed, outputs: Sequence[NDArray[Any]]) -> Answer:
        """Name what came out."""
        model = self.model
        found = dict(zip(model.output_names, outputs, strict=True))
        tensors = tuple([Tensor(name, model.output_datatypes[name], found[name]) for name in self.wanted])
        return Answer(InferResponse(model.name, model.version, tensors, id=self.identifier), feed)


def join(feeds: Sequence[Feed]) -> Feed:
    """Stack the rows of several requests."""
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def split(values: NDArray[Any], jobs: Sequence[Job]) -> list[NDArray[Any]]:
    """Cut the rows of a run apart again, (rows of all jobs, ...) -> (rows, ...) for each."""
    return np.split(values, np.cumsum([job.rows for job in jobs[:-1]]))
