"""Predict and explain in process, with numpy and ONNX Runtime alone; the transports sit on the same object."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from clearweight.artifact import Artifact
from clearweight.service.core.alarm import check_allowed, drift_state, respond
from clearweight.service.core.background import Background
from clearweight.service.core.errors import LoadError, UnavailableError
from clearweight.service.core.explain_job import ExplainJob
from clearweight.service.core.folder_watch import FolderWatch
from clearweight.service.core.in_process import Choice, explanation, prediction, request_for
from clearweight.service.core.job import Job, PredictJob
from clearweight.service.core.model import Model
from clearweight.service.core.model_metadata import describe
from clearweight.service.core.observer import Observer
from clearweight.service.core.options import EngineOptions
from clearweight.service.core.parameters import VARIANT
from clearweight.service.core.repository import Repository
from clearweight.service.core.session import Halt
from clearweight.service.core.slot import Slot
from clearweight.service.core.types import (
    Explanation,
    InferRequest,
    InferResponse,
    ModelHealth,
    ModelMetadata,
    ModelState,
    Prediction,
)
from clearweight.service.core.watch import Watch
from clearweight.service.drift import DriftReport, IntegrityReport

VERBS = ("predict", "explain")


class Engine:
    """All artifacts under a folder, ready to predict and explain.

    Parameters
    ----------
    directory : path
        One artifact (NAME/VERSION), the versions of one model, or a folder of models.
    options : EngineOptions, optional
    observer : Observer, optional
    strict : bool
        True raises when no model is ready, which is what a program in the same process wants; a server starts
        anyway and shows the reason.

    Raises
    ------
    NotFoundError
        No artifact there.
    LoadError, UnavailableError
        With ``strict``: no model can be loaded, or none passes its tests.
    """

    def __init__(
        self,
        directory: str | Path,
        options: EngineOptions | None = None,
        *,
        observer: Observer | None = None,
        strict: bool = True,
    ) -> None:
        self.options = options or EngineOptions()
        self.observer = observer or Observer()
        watched = self.options.watch_seconds > 0.0
        self.repository = Repository(
            Path(directory),
            self._load,
            low_fidelity=self.options.low_fidelity,
            public_key=self.options.public_key,
            chosen=self.options.load,
            empty=watched,
        )
        slots = list(self.repository)
        if strict and slots and not any(slot.ready for slot in slots):
            first = slots[0]
            if first.model is None:
                raise LoadError(first.reason)
            first.serving()
        self._watch: Watch | None = None
        if self.options.shadow > 0.0:
            self._watch = Watch(slots, self.options, self.observer, self._on_alarm)
            self.repository.prepare, self.repository.retire = self._watch.add, self._watch.remove
        self._background = Background()
        if self.options.integrity_interval > 0.0:
            self._background.repeat("integrity", self.options.integrity_interval, self._self_tests)
        if watched:
            self._background.repeat("watch", self.options.watch_seconds, FolderWatch(self.repository).look)

    def _load(self, artifact: Artifact) -> Model:
        return Model(
            artifact,
            threads=self.options.threads,
            observer=self.observer,
            fixed_batch=self.options.fixed_batch,
            memory=self.options.memory,
            all_explainers=self.options.all_explainers,
        )

    def close(self) -> None:
        """Stop the background threads."""
        if self._watch is not None:
            self._watch.close()
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- in process ---------------------------------------------------------------------------------------------

    def predict(
        self,
        x: NDArray[Any] | Mapping[str, NDArray[Any]],
        *,
        preprocess: bool = False,
        model: str | None = None,
        version: str | None = None,
    ) -> Prediction:
        """Predict a batch.

        Parameters
        ----------
        x : array, shape (N, ...), or input name to array
            The model's declared type, or the raw type of the manifest, which is then preprocessed here.
        preprocess : bool
            The values are raw although raw values have the model's own type: floats that the model was trained on
            scaled.
        model, version : str, optional
            Needed only where several are loaded; the version defaults to the highest.

        Raises
        ------
        ServiceError
            As a transport would report it: wrong shape or type, unknown model, model not ready.
        """
        choice = Choice(preprocess=preprocess)
        return prediction(self.infer(request_for(self.repository, x, model, version, choice)))

    def explain(
        self,
        x: NDArray[Any] | Mapping[str, NDArray[Any]],
        *,
        target: int | NDArray[Any] | None = None,
        method: str | None = None,
        steps: int | None = None,
        baseline: str | NDArray[Any] | None = None,
        seed: int | None = None,
        preprocess: bool = False,
        model: str | None = None,
        version: str | None = None,
    ) -> Explanation:
        """Predict a batch and attribute one class per row to its inputs.

        Parameters
        ----------
        target : int or integer array, shape (N,), optional
            Class to explain; default the predicted one of each row.
        method : str, optional
            Default the manifest's default explainer.
        steps : int, optional
            Path points, draws or masks, for methods that leave the choice; default the manifest's.
        baseline : "zero", "black", or array of shape (N, ...) or (1, ...), optional
            What the input is compared with, for methods that take one: zero after preprocessing (the default), zero
            before it, or an array of the input's type, raw or not.
        seed : int, optional
            Of noise and masks; default 0.
        preprocess : bool
            As of ``predict``; of a baseline array as well.

        Raises
        ------
        ServiceError
            As a transport would report it; ``TooLargeError`` where batch x steps is above the limits.
        """
        choice = Choice(target, method, steps, baseline, seed, preprocess)
        return explanation(self.infer_explain(request_for(self.repository, x, model, version, choice)))

    # -- for the transports -------------------------------------------------------------------------------------

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer one predict request."""
        return self.run([self.job("predict", request)])[0]

    def infer_explain(self, request: InferRequest) -> InferResponse:
        """Answer one explain request."""
        return self.run([self.job("explain", request)])[0]

    def job(self, verb: str, request: InferRequest) -> Job:
        """Check a request and make what can be run, alone or with others of its key.

        Raises
        ------
        ServiceError
            Whatever a caller can do wrong, or a model that does not serve.
        """
        slot = self.repository.slot(request.model, request.version)
        if verb == "predict":
            return PredictJob(slot, slot.serving(), request)
        model = slot.explaining(request.parameters.get(VARIANT))
        if model is slot.model:
            check_allowed(slot, self.options.policy(slot.name))
        return ExplainJob(slot, model, request, self.options.limits, drift_state(slot))

    def run(self, jobs: Sequence[Job], halt: Halt | None = None) -> list[InferResponse]:
        """Run jobs of one key together; ``halt`` ends the run from another thread."""
        first, *others = jobs
        answers = first.run(others, halt)
        for job, answer in zip(jobs, answers, strict=True):
            if answer.explained is not None:
                method, found = str(answer.response.parameters["method"]), answer.explained
                self.observer.explained(job.model.name, method, len(found.target), found.completeness_error)
            if self._watch is not None and job.model is job.slot.model:
                self._watch.sample(job.slot, answer.feed)
        return [answer.response for answer in answers]

    def metadata(self, name: str, version: str | None = None) -> ModelMetadata:
        """Describe a model.

        Raises
        ------
        NotFoundError
            No such model or version.
        UnavailableError
            It could not be loaded, so nobody knows what it takes.
        """
        return describe(self.repository.slot(name, version), self.repository.versions(name))

    # -- what is loaded -----------------------------------------------------------------------------------------

    def index(self) -> list[ModelState]:
        """List every version on disk or in memory, sorted by name and version, with its state and the reason."""
        return self.repository.index()

    def load(self, name: str) -> None:
        """Load every version of a model that is on disk, anew where its files have changed; takes as long as that.

        Requests are answered by the old versions until the new ones are open, warm and tested.

        Raises
        ------
        NotFoundError
            There is no such model on disk.
        LoadError
            A version cannot be loaded or fails its tests; what served before serves on.
        """
        self.repository.load(name)

    def unload(self, name: str) -> None:
        """Take a model out of memory once the requests that run on it have ended.

        Raises
        ------
        NotFoundError
            Unknown model.
        """
        self.repository.unload(name)

    @property
    def ready(self) -> bool:
        """Whether every loaded model's current version serves."""
        return all(self.repository.slot(name).ready for name in self.repository.names)

    def health(self, name: str, version: str | None = None) -> ModelHealth:
        """Answer the three questions for one model."""
        slot = self.repository.slot(name, version)
        model = slot.model
        return ModelHealth(
            slot.name,
            slot.version,
            slot.ready,
            slot.reason,
            model.fidelity if model else None,
            model.integrity if model else None,
            self._drift(slot),
        )

    def self_test(self, name: str, version: str | None = None) -> IntegrityReport:
        """Run the integrity check of one model now.

        Raises
        ------
        UnavailableError
            The model is not loaded.
        """
        slot = self.repository.slot(name, version)
        if slot.model is None:
            raise UnavailableError(f"Model {name!r} is not loaded. {slot.reason}")
        return slot.model.self_test()

    def drain_shadow(self) -> None:
        """Wait until every queued comparison is done; for tests and orderly ends."""
        if self._watch is not None:
            self._watch.drain()

    def count_passed(self) -> None:
        """Count the rows that were not drawn for comparison since this was last done; before counts are read."""
        if self._watch is not None:
            self._watch.count_passed()

    def _drift(self, slot: Slot) -> DriftReport:
        if self._watch is not None:
            return self._watch.report(slot)
        reason = "Shadow comparison is off; start with --shadow SHARE to switch it on."
        return DriftReport("disabled", reason, "none", 0.0)

    def _on_alarm(self, slot: Slot, reason: str) -> None:
        respond(self.repository, slot, self.options.policy(slot.name), reason)

    def _self_tests(self) -> None:
        for slot in self.repository:
            for model in (slot.model, slot.reference):
                if model is not None:
                    model.self_test()
