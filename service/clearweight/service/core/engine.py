"""Predict and explain in process, with numpy and ONNX Runtime alone; the transports sit on the same object."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import Artifact
from clearweight.artifact.explain_inputs import BASELINE
from clearweight.service.core.datatypes import datatype_of
from clearweight.service.core.errors import InvalidRequestError, LoadError, UnavailableError, WithheldError
from clearweight.service.core.explain_job import COMPLETENESS, MAP, ExplainJob
from clearweight.service.core.explainer_metadata import explainer_properties
from clearweight.service.core.folder_watch import FolderWatch
from clearweight.service.core.job import Job, PredictJob
from clearweight.service.core.model import Model
from clearweight.service.core.observer import Observer
from clearweight.service.core.options import EngineOptions
from clearweight.service.core.parameters import TARGET, VARIANT
from clearweight.service.core.repository import Repository, version_key
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
    Scalar,
    Tensor,
)
from clearweight.service.core.watch import Watch
from clearweight.service.drift import DriftReport, IntegrityReport

_LOG = logging.getLogger("clearweight.service")
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
        self._closing = threading.Event()
        self._watch: Watch | None = None
        if self.options.shadow > 0.0:
            self._watch = Watch(slots, self.options, self.observer, self._on_alarm)
        if self._watch is not None:
            self.repository.prepare, self.repository.retire = self._watch.add, self._watch.remove
        self._threads: list[threading.Thread] = []
        if self.options.integrity_interval > 0.0:
            self._repeat("integrity", self.options.integrity_interval, self._self_tests)
        if watched:
            self._repeat("watch", self.options.watch_seconds, FolderWatch(self.repository).look)

    def _load(self, artifact: Artifact) -> Model:
        return Model(
            artifact,
            threads=self.options.threads,
            observer=self.observer,
            fixed_batch=self.options.fixed_batch,
            memory=self.options.memory,
            all_explainers=self.options.all_explainers,
        )

    def _repeat(self, what: str, seconds: float, work: Callable[[], None]) -> None:
        """Do ``work`` again and again in a thread of its own, with pauses of ``seconds``."""

        def loop() -> None:
            while not self._closing.wait(seconds):
                try:
                    work()
                except Exception:  # noqa: BLE001  # whatever went wrong, the next turn still comes
                    _LOG.exception("The %s thread failed.", what)

        thread = threading.Thread(target=loop, name=f"clearweight-{what}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def close(self) -> None:
        """Stop the background threads."""
        self._closing.set()
        if self._watch is not None:
            self._watch.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- in process ---------------------------------------------------------------------------------------------

    def predict(
        self,
        x: NDArray[Any] | Mapping[str, NDArray[Any]],
        *,
        model: str | None = None,
        version: str | None = None,
    ) -> Prediction:
        """Predict a batch.

        Parameters
        ----------
        x : array, shape (N, ...), or input name to array
            The model's declared type, or the raw type of the manifest, which is then preprocessed here.
        model, version : str, optional
            Needed only where several are loaded; the version defaults to the highest.

        Raises
        ------
        ServiceError
            As a transport would report it: wrong shape or type, unknown model, model not ready.
        """
        response = self.infer(self._request(x, model, version, {}))
        return Prediction(response.model, response.version, {t.name: t.values for t in response.outputs})

    def explain(
        self,
        x: NDArray[Any] | Mapping[str, NDArray[Any]],
        *,
        target: int | NDArray[Any] | None = None,
        method: str | None = None,
        steps: int | None = None,
        baseline: str | NDArray[Any] | None = None,
        seed: int | None = None,
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

        Raises
        ------
        ServiceError
            As a transport would report it; ``TooLargeError`` where batch x steps is above the limits.
        """
        asked = {"method": method, "steps": steps, "seed": seed}
        parameters: dict[str, Scalar] = {key: value for key, value in asked.items() if value is not None}
        extra: tuple[Tensor, ...] = ()
        if isinstance(target, np.ndarray):
            extra = (Tensor(TARGET, "INT64", target.astype(np.int64, casting="safe")),)
        elif target is not None:
            parameters[TARGET] = int(target)
        if isinstance(baseline, np.ndarray):
            extra = (*extra, Tensor(BASELINE, datatype_of(baseline), baseline))
        elif baseline is not None:
            parameters[BASELINE] = baseline
        response = self.infer_explain(self._request(x, model, version, parameters, extra))
        found = {tensor.name: tensor.values for tensor in response.outputs}
        return Explanation(
            model=response.model,
            version=response.version,
            map=found.pop(MAP),
            target=found.pop(TARGET),
            completeness_error=found.pop(COMPLETENESS, None),
            outputs=found,
            parameters=response.parameters,
        )

    def _request(
        self,
        x: NDArray[Any] | Mapping[str, NDArray[Any]],
        model: str | None,
        version: str | None,
        parameters: Mapping[str, Scalar],
        extra: tuple[Tensor, ...] = (),
    ) -> InferRequest:
        if model is None:
            names = self.repository.names
            if not names:
                raise UnavailableError("No model is loaded.")
            if len(names) > 1:
                raise InvalidRequestError(f"Several models are loaded, name one: {', '.join(names)}.")
            model = names[0]
        if not isinstance(x, Mapping):
            x = {self.repository.slot(model, version).serving().input_names[0]: np.asarray(x)}
        tensors = tuple(Tensor(name, datatype_of(values), values) for name, values in x.items())
        return InferRequest(model, version, tensors + extra, parameters=parameters)

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
        drift_state = slot.monitor.state if slot.monitor is not None else "disabled"
        forbidden = drift_state == "alarm" and self.options.policy(slot.name) == "withhold_explanation"
        if forbidden and model is slot.model:
            raise WithheldError(
                f"Model {slot.name!r} gives no explanations while its drift_state is {drift_state!r}. "
                f"{self._drift(slot).reason}"
            )
        return ExplainJob(slot, model, request, self.options.limits, drift_state)

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
        slot = self.repository.slot(name, version)
        if slot.model is None:
            raise UnavailableError(f"Model {name!r} version {slot.version!r} is not loaded. {slot.reason}")
        manifest = slot.model.manifest
        properties = {
            "variant": manifest.variant,
            "model_sha256": manifest.manifest_sha256,
            "raw_datatype": manifest.preprocessing.raw_datatype,
            "explainers": ",".join(manifest.explainers),
            "default_explainer": manifest.default_explainer or "",
            "fidelity": slot.model.fidelity.state,
            **explainer_properties(manifest),
        }
        return ModelMetadata(
            name,
            tuple(self.repository.versions(name)),
            "onnx_onnxv1",
            manifest.inputs,
            manifest.outputs,
            properties,
        )

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

    def _drift(self, slot: Slot) -> DriftReport:
        if self._watch is not None:
            return self._watch.report(slot)
        reason = "Shadow comparison is off; start with --shadow SHARE to switch it on."
        return DriftReport("disabled", reason, "none", 0.0)

    def _on_alarm(self, slot: Slot, reason: str) -> None:
        """Do what the model's policy asks for when a version enters the alarm state; in the background."""
        _LOG.warning("Drift alarm of model %s version %s. %s", slot.name, slot.version, reason)
        if self.options.policy(slot.name) != "rollback":
            return
        older = [
            other
            for other in self.repository
            if other.name == slot.name
            and version_key(other.version) < version_key(slot.version)
            and other.ready
        ]
        if not older:
            _LOG.error("There is no older version of model %s to go back to.", slot.name)
            return
        back = max(older, key=lambda other: version_key(other.version)).version
        self.repository.withdraw(slot, f"Rolled back to version {back!r} on a drift alarm. {reason}")

    def _self_tests(self) -> None:
        for slot in self.repository:
            for model in (slot.model, slot.reference):
                if model is not None:
                    model.self_test()
