"""One loaded artifact: its sessions, its self-test, its verdicts."""

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import Artifact, ArtifactError, Canary, explain_inputs, preprocessing
from clearweight.artifact.explain_inputs import BASELINE
from clearweight.service.core.errors import LoadError, UnsupportedError
from clearweight.service.core.observer import Observer
from clearweight.service.core.session import Halt, Session
from clearweight.service.core.weights import MEMORY, Weights
from clearweight.service.drift import FidelityReport, IntegrityReport, check_fidelity, check_integrity

_TARGET, _MAP, _COMPLETENESS = "target", "explain", "completeness_error"
_WARM_RUNS = 3
_SLOWER = 2.0
"""How many times as long as estimated one run may make the estimate."""
_OCCLUSION = "occlusion"


@dataclass(slots=True, eq=False)
class Explained:
    """One explain run: map, the model's own outputs, the explained class per row, completeness where it exists."""

    map: NDArray[Any]
    outputs: list[NDArray[Any]]
    target: NDArray[np.int64]
    completeness_error: NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class _Explainer:
    """One explainer that is open: its session, and the outputs it is asked for."""

    session: Session
    outputs: tuple[str, ...]
    completes: bool


class Model:
    """Predicts and explains with one artifact.

    Parameters
    ----------
    artifact : Artifact
        Opened and verified.
    threads : int
        ONNX Runtime threads per run.
    observer : Observer
    fixed_batch : int
        Rows that sessions are planned for; 0 for any number.
    memory : "fast" or "saving"
        Whether every session has a copy of the parameters, or all share one.
    all_explainers : bool
        Open the sessions of all explainers now; else all but the default one wait for their first use.

    Raises
    ------
    LoadError
        ONNX Runtime refuses a graph, a graph's inputs and outputs are not those of the manifest, or the canaries
        do not fit the graphs.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        threads: int,
        observer: Observer,
        fixed_batch: int = 0,
        memory: str = "fast",
        all_explainers: bool = False,
    ) -> None:
        manifest = artifact.manifest
        self.manifest = manifest
        self.name, self.version = manifest.name, manifest.version
        self.input_names = tuple(spec.name for spec in manifest.inputs)
        self.output_names = tuple(spec.name for spec in manifest.outputs)
        self.output_datatypes = {spec.name: spec.datatype for spec in manifest.outputs}
        self.sha256 = manifest.manifest_sha256
        self.device_bytes = artifact.device_bytes
        self._artifact, self._threads, self._observer = artifact, threads, observer
        self._fixed_batch = fixed_batch
        self._weights = self._parameters(memory)
        self._predict = self._session("predict.onnx", (*self.input_names,), self.output_names)
        self._explainers: dict[str, _Explainer] = {}
        self._drawn: dict[str, tuple[tuple[int, ...], dict[str, NDArray[np.float32]]]] = {}
        self._loading = threading.Lock()
        self.canaries = artifact.canaries()
        self.fidelity: FidelityReport = check_fidelity(manifest.fidelity, self.canaries)
        self._seconds_per_row: dict[str, float] = {}  # of the network; by method, and "" for predict
        self.joins_rows = all(spec.shape[:1] == (-1,) for spec in (*manifest.inputs, *manifest.outputs))
        self.integrity: IntegrityReport
        try:
            self.self_test()
            if self.canaries.count:
                self._time()
            for method in manifest.explainers if all_explainers else ():
                self._explainer(method)
        except Exception as error:  # canaries that do not fit the graph end in as many classes
            raise LoadError(f"The self-test of {self.name!r} cannot run: {error}") from error

    def _parameters(self, memory: str) -> Weights:
        try:
            return MEMORY[memory](self._artifact.weights)
        except ArtifactError as error:
            raise LoadError(f"The weights of {self.name!r} cannot be read: {error}") from error

    def _session(
        self, file: str, inputs: tuple[str, ...], outputs: tuple[str, ...], *, prepacked: bool = True
    ) -> Session:
        try:
            graph = self._artifact.graph(file)
            session = Session(graph, self._weights, self._threads, self._fixed_batch, prepacked=prepacked)
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise LoadError(f"ONNX Runtime cannot load {file} of {self.name!r}: {error}") from error
        if set(session.inputs) != set(inputs) or not set(outputs) <= set(session.outputs):
            raise LoadError(
                f"{file} of {self.name!r} has inputs {list(session.inputs)} and outputs {list(session.outputs)}, "
                f"the manifest says {list(inputs)} and {list(outputs)}."
            )
        return session

    def _explainer(self, method: str) -> _Explainer:
        found = self._explainers.get(method)
        if found is None:
            with self._loading:
                found = self._explainers.get(method)
                if found is None:
                    stated = self.manifest.explainers[method]
                    given = (*self.input_names, _TARGET, *stated.inputs)
                    returned = (_MAP, *self.output_names, *((_COMPLETENESS,) if stated.completeness else ()))
                    packed = stated.prepacked is not False
                    session = self._session(stated.file, given, returned, prepacked=packed)
                    found = _Explainer(session, returned, stated.completeness)
                    self._explainers[method] = found
        return found

    def prepare(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Turn raw inputs into the graph's, as the manifest's preprocessing says."""
        return preprocessing.apply(self.manifest.preprocessing, raw)

    def drawn_inputs(
        self, method: str, shape: tuple[int, ...], *, steps: int, seed: int
    ) -> dict[str, NDArray[np.float32]]:
        """Make what a method's graph takes for all rows alike: path points, noise, masks.

        Parameters
        ----------
        shape : (N, *row) of the model's input
        """
        stated = self.manifest.explainers[method]
        usual = (steps, seed) == (stated.steps, 0)
        kept = self._drawn.get(method) if usual else None
        if kept is None or kept[0] != shape[1:]:
            names = tuple(name for name in stated.inputs if name != BASELINE)
            drawn = explain_inputs(names, shape, steps=steps, seed=seed, settings=stated.settings)
            kept = (shape[1:], drawn)
            if usual:  # what nearly everyone asks for is drawn once
                self._drawn[method] = kept
        return kept[1]

    def baseline(
        self, method: str, shape: tuple[int, ...], given: NDArray[np.float32] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Make a method's input ``baseline``, one row for each of the input's; nothing where it takes none.

        Parameters
        ----------
        shape : (N, *row) of the model's input
        given : float32 (N, *row) or (1, *row), None for zero
        """
        if BASELINE not in self.manifest.explainers[method].inputs:
            return {}
        return explain_inputs((BASELINE,), shape, steps=1, seed=0, settings={}, baseline=given)

    def predict(
        self, feed: Mapping[str, NDArray[Any]], *, stage: str = "predict", halt: Halt | None = None
    ) -> list[NDArray[Any]]:
        """Run the model; returns its outputs in the manifest's order."""
        started = time.perf_counter()
        outputs = self._predict.run(feed, self.output_names, halt)
        seconds = time.perf_counter() - started
        self._took("", seconds / len(outputs[0]))
        self._observer.ran(stage, len(outputs[0]), seconds)
        return outputs

    def explain(
        self,
        feed: Mapping[str, NDArray[Any]],
        target: NDArray[np.int64],
        method: str,
        further: Mapping[str, NDArray[Any]] | None = None,
        *,
        steps: int | None = None,
        stage: str = "explain",
        halt: Halt | None = None,
    ) -> Explained:
        """Run model and explainer in one pass.

        Parameters
        ----------
        target : int64, shape (N,)
            Class per row, -1 for the arg-max of this run.
        further : from ``drawn_inputs`` and ``baseline``; None makes those that the artifact was verified with: the
            manifest's steps, seed 0, baseline zero
        steps : of ``further``, for the estimate of later runs
        halt : ends the run from another thread
        """
        explainer = self._explainer(method)
        if further is None:
            shape, stated = next(iter(feed.values())).shape, self.manifest.explainers[method]
            drawn = self.drawn_inputs(method, shape, steps=stated.steps, seed=0)
            further = drawn | self.baseline(method, shape)
        started = time.perf_counter()
        found = explainer.session.run({**feed, _TARGET: target, **further}, explainer.outputs, halt)
        seconds = time.perf_counter() - started
        rows = len(target)
        self._took(method, seconds / (rows * (steps or self.manifest.explainers[method].steps)))
        self._observer.ran(stage, rows, seconds)
        error = found.pop() if explainer.completes else None
        map_, *outputs = found
        resolved = outputs[0].argmax(axis=1).astype(np.int64, copy=False)
        if max(target.tolist()) >= 0:  # a tenth of what numpy takes for the few there are
            resolved = np.where(target < 0, resolved, target)
        return Explained(map_, outputs, resolved, error)

    def explain_default(
        self, feed: Mapping[str, NDArray[Any]], target: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return map and logits of the default explainer, for comparisons in the background."""
        return self._explain_in_parts(feed, target, self._default(), stage="shadow")

    def _explain_in_parts(
        self, feed: Mapping[str, NDArray[Any]], target: NDArray[np.int64], method: str, *, stage: str
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return maps and logits; row by row, for memory, where the method makes many rows of each."""
        size = 1 if self.manifest.explainers[method].steps > 1 else len(target)
        parts = [slice(start, start + size) for start in range(0, len(target), size)]
        found = [
            self.explain({n: v[part] for n, v in feed.items()}, target[part], method, stage=stage)
            for part in parts
        ]
        return np.concatenate([part.map for part in found]), np.concatenate([p.outputs[0] for p in found])

    def _default(self) -> str:
        if self.manifest.default_explainer is None:
            raise UnsupportedError(f"Model {self.name!r} was built without explainers.")
        return self.manifest.default_explainer

    def _took(self, kind: str, seconds: float) -> None:
        # A run that something else delayed says little of the next one; three in a row say that it became slow.
        known = self._seconds_per_row.get(kind, seconds)
        self._seconds_per_row[kind] = min(seconds, _SLOWER * known)

    def seconds(self, rows: int, method: str = "", steps: int = 1) -> float:
        """Estimate how long a run will take from the last ones of its kind; unknown before the first.

        Parameters
        ----------
        method : of an explain run, which must be loaded before its first; empty for predict
        """
        return self._seconds_per_row.get(method, math.inf) * rows * steps

    def self_test(self) -> IntegrityReport:
        """Run the canaries and compare with the stored answers of this variant; remembers and returns the report."""
        canaries, method = self.canaries, self.manifest.default_explainer
        reference = self.manifest.variant == "reference"
        expected = canaries.logits_reference if reference else canaries.logits_compressed
        stored = canaries.maps_reference if reference else canaries.maps_compressed
        feed = self._canary_feed(canaries)
        logits, maps = self.predict(feed, stage="canary")[0] if canaries.count else expected, None
        if method is not None and stored.ndim > 1 and canaries.count:
            own, told = self._explain_in_parts(feed, canaries.target, method, stage="canary")
            maps = (stored, own)
            # The explain graph carries its own forward pass; its logits must hold as well.
            logits = np.where(np.abs(told - expected) > np.abs(logits - expected), told, logits)
        occlusions = self._occlusions(canaries, feed) if self.manifest.variant == "compressed" else None
        report = check_integrity(self.manifest.integrity, (expected, logits), maps, occlusions)
        self.integrity = report
        self._observer.checked(self.name, self.version, self.manifest.variant, report)
        return report

    def _occlusions(
        self, canaries: Canary, feed: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return stored and computed occlusion maps of the canaries where there are any."""
        stored = canaries.occlusions_compressed
        if stored is None or _OCCLUSION not in self.manifest.explainers or not canaries.count:
            return None
        return stored, self._explain_in_parts(feed, canaries.target, _OCCLUSION, stage="canary")[0]

    def _canary_feed(self, canaries: Canary, rows: int | None = None) -> dict[str, NDArray[Any]]:
        return {self.input_names[0]: self.prepare(canaries.inputs[:rows])}

    def _time(self) -> None:
        # Warm single rows, the smallest unit of work: every run leaves its time behind, and that decides whether a
        # request is worth a change of threads.
        feed = self._canary_feed(self.canaries, 1)
        target = np.array([-1], dtype=np.int64)
        for _ in range(_WARM_RUNS):
            self.predict(feed, stage="canary")
            if self.manifest.default_explainer is not None:
                self.explain(feed, target, self.manifest.default_explainer, stage="canary")
