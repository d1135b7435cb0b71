"""One loaded artifact: its sessions, its self-test, its verdicts."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import Artifact, Canary, preprocessing
from clearweight.service.core.errors import LoadError, UnsupportedError
from clearweight.service.core.observer import Observer
from clearweight.service.core.session import Session
from clearweight.service.drift import FidelityReport, IntegrityReport, check_fidelity, check_integrity

_TARGET, _MAP, _COMPLETENESS = "target", "explain", "completeness_error"


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """One explain run: map, the model's own outputs, the explained class per row, completeness where it exists."""

    map: NDArray[Any]
    outputs: list[NDArray[Any]]
    target: NDArray[np.int64]
    completeness_error: NDArray[Any] | None


class Model:
    """Predicts and explains with one artifact.

    Parameters
    ----------
    artifact : Artifact
        Opened and verified.
    threads : int
        ONNX Runtime threads per run.
    observer : Observer

    Raises
    ------
    LoadError
        ONNX Runtime refuses a graph, a graph's inputs and outputs are not those of the manifest, or the canaries
        do not fit the graphs.
    """

    def __init__(self, artifact: Artifact, *, threads: int, observer: Observer) -> None:
        manifest = artifact.manifest
        self.manifest = manifest
        self.name, self.version = manifest.name, manifest.version
        self.input_names = tuple(spec.name for spec in manifest.inputs)
        self.output_names = tuple(spec.name for spec in manifest.outputs)
        self.output_datatypes = {spec.name: spec.datatype for spec in manifest.outputs}
        self.sha256 = manifest.manifest_sha256
        self._artifact, self._threads, self._observer = artifact, threads, observer
        self._predict = self._session("predict.onnx", (*self.input_names,), self.output_names)
        self._explainers: dict[str, Session] = {}
        self._loading = threading.Lock()
        self._canaries = artifact.canaries()
        self.fidelity: FidelityReport = check_fidelity(manifest.fidelity, self._canaries)
        self._seconds_per_row = {"predict": 0.0, "explain": 0.0}
        self.integrity: IntegrityReport
        try:
            self.self_test()
            if self._canaries.count:
                self._time()
        except Exception as error:  # canaries that do not fit the graph end in as many classes
            raise LoadError(f"The self-test of {self.name!r} cannot run: {error}") from error

    def _session(self, file: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Session:
        try:
            session = Session(self._artifact.graph(file), self._artifact.weights(), self._threads)
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise LoadError(f"ONNX Runtime cannot load {file} of {self.name!r}: {error}") from error
        if set(session.inputs) != set(inputs) or not set(outputs) <= set(session.outputs):
            raise LoadError(
                f"{file} of {self.name!r} has inputs {list(session.inputs)} and outputs {list(session.outputs)}, "
                f"the manifest says {list(inputs)} and {list(outputs)}."
            )
        return session

    def _explainer(self, method: str) -> Session:
        session = self._explainers.get(method)
        if session is None:
            with self._loading:
                session = self._explainers.get(method)
                if session is None:
                    file = self.manifest.explainers[method].file
                    session = self._session(file, (*self.input_names, _TARGET), (_MAP, *self.output_names))
                    self._explainers[method] = session
        return session

    def prepare(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Turn raw inputs into the graph's, as the manifest's preprocessing says."""
        return preprocessing.apply(self.manifest.preprocessing, raw)

    def predict(self, feed: Mapping[str, NDArray[Any]], *, stage: str = "predict") -> list[NDArray[Any]]:
        """Run the model; returns its outputs in the manifest's order."""
        started = time.perf_counter()
        outputs = self._predict.run(feed, self.output_names)
        self._observer.ran(stage, len(outputs[0]), time.perf_counter() - started)
        return outputs

    def explain(
        self,
        feed: Mapping[str, NDArray[Any]],
        target: NDArray[np.int64],
        method: str,
        *,
        stage: str = "explain",
    ) -> Explained:
        """Run model and explainer in one pass.

        Parameters
        ----------
        target : int64, shape (N,)
            Class per row, -1 for the arg-max of this run.
        """
        session = self._explainer(method)
        completes = _COMPLETENESS in session.outputs
        names = (_MAP, *self.output_names, *((_COMPLETENESS,) if completes else ()))
        started = time.perf_counter()
        found = session.run({**feed, _TARGET: target}, names)
        self._observer.ran(stage, len(target), time.perf_counter() - started)
        outputs = found[1 : 1 + len(self.output_names)]
        resolved = np.where(target < 0, outputs[0].argmax(axis=1), target).astype(np.int64)
        return Explained(found[0], outputs, resolved, found[-1] if completes else None)

    def explain_default(
        self, feed: Mapping[str, NDArray[Any]], target: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return map and logits of the default explainer, for comparisons in the background."""
        found = self.explain(feed, target, self._default(), stage="shadow")
        return found.map, found.outputs[0]

    def _default(self) -> str:
        if self.manifest.default_explainer is None:
            raise UnsupportedError(f"Model {self.name!r} was built without explainers.")
        return self.manifest.default_explainer

    def seconds(self, verb: str, rows: int, method: object = None) -> float:
        """Estimate how long a run will take; an explainer nobody has used yet must be loaded first."""
        if verb == "explain" and method in self.manifest.explainers and method not in self._explainers:
            return math.inf
        return self._seconds_per_row[verb] * rows

    def self_test(self) -> IntegrityReport:
        """Run the canaries and compare with the stored answers of this variant; remembers and returns the report."""
        canaries, method = self._canaries, self.manifest.default_explainer
        reference = self.manifest.variant == "reference"
        expected = canaries.logits_reference if reference else canaries.logits_compressed
        stored = canaries.maps_reference if reference else canaries.maps_compressed
        feed = self._canary_feed(canaries)
        logits, maps = self.predict(feed, stage="canary")[0] if canaries.count else expected, None
        if method is not None and stored.ndim > 1 and canaries.count:
            found = self.explain(feed, canaries.target, method, stage="canary")
            maps = (stored, found.map)
            # The explain graph carries its own forward pass; its logits must hold as well.
            worse = np.abs(found.outputs[0] - expected) > np.abs(logits - expected)
            logits = np.where(worse, found.outputs[0], logits)
        report = check_integrity(self.manifest.integrity, (expected, logits), maps)
        self.integrity = report
        self._observer.checked(self.name, self.version, self.manifest.variant, report)
        return report

    def _canary_feed(self, canaries: Canary, rows: int | None = None) -> dict[str, NDArray[Any]]:
        return {self.input_names[0]: self.prepare(canaries.inputs[:rows])}

    def _time(self) -> None:
        # A warm single row, the smallest unit of work; decides whether a request is worth a change of threads.
        feed = self._canary_feed(self._canaries, 1)
        target = np.array([-1], dtype=np.int64)
        runs = {"predict": lambda: self.predict(feed, stage="canary")}
        for verb, run in runs.items():
            self._seconds_per_row[verb] = _fastest(run)
        if self.manifest.default_explainer is not None:
            method = self._default()
            self._seconds_per_row["explain"] = _fastest(
                lambda: self.explain(feed, target, method, stage="canary")
            )


def _fastest(run: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)
