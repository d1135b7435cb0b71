"""Live drift beside the requests: samples rows, runs the reference in the background, keeps the verdicts."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import Artifact, ArtifactError, Drift
from clearweight.service.core.errors import LoadError
from clearweight.service.core.model import Model
from clearweight.service.core.observer import Observer
from clearweight.service.core.options import EngineOptions
from clearweight.service.core.slot import Slot
from clearweight.service.drift import DriftReport, Monitor, ShadowWorker, compare
from clearweight.service.drift.charts import METRIC
from clearweight.service.drift.state_file import StateFile
from clearweight.service.drift.worst_samples import WorstSamples

_ROWS = 8
"""Rows per background job, so that one large batch cannot hold the queue."""
_SAVE_SECONDS = 2.0
"""Comparisons of so many seconds may be lost when the process is killed."""
_SOLVING = 4096
"""Models whose limits may wait to be solved: each waits once at most."""


class Watch:
    """Compares a share of the rows with the uncompressed reference beside each artifact.

    A model without a reference or without a shipped null is not watched; its report says why.

    Parameters
    ----------
    alarmed : callable
        Told in the background which version entered the alarm state, and why.
    """

    def __init__(
        self,
        slots: Iterable[Slot],
        options: EngineOptions,
        observer: Observer,
        alarmed: Callable[[Slot, str], None],
    ) -> None:
        self._options, self._observer = options, observer
        self._rng = np.random.default_rng(options.shadow_seed)
        self._alarmed = alarmed
        self._reasons: dict[Slot, str] = {}
        self._files: dict[Slot, StateFile] = {}
        self._saved = time.monotonic()
        self._watched: dict[Slot, Monitor] = {}
        self._limits = ShadowWorker(_SOLVING, 1.0, "limits")
        self._worker = ShadowWorker(options.shadow_queue, options.shadow_cpu_share)
        for slot in slots:
            self._join(slot)
        self._share_budget()

    def add(self, slot: Slot) -> None:
        """Watch a version that was loaded while others ran; it is not sampled before this returns."""
        self._join(slot)
        self._share_budget()

    def remove(self, slot: Slot) -> None:
        """Forget a version that was replaced or unloaded; comparisons that were queued still end on it."""
        self._reasons.pop(slot, None)
        monitor = self._watched.pop(slot, None)
        if monitor is not None:
            self._save(slot, monitor)
            self._files.pop(slot, None)
            self._share_budget()

    def _share_budget(self) -> None:
        """Let the series of all models share the device's false-alarm interval, and solve limits where that changes."""
        monitors = list(self._watched.values())
        for monitor in monitors:
            monitor.family = sum(other.weight for other in monitors)
            monitor.refresh()

    def _join(self, slot: Slot) -> None:
        """Load a slot's reference and give it charts; where there is no watching it, remember why."""
        try:
            slot.reference, shipped = self._reference(slot)
        except (ArtifactError, LoadError, OSError) as error:
            self._reasons[slot] = str(error)
            return
        slot.monitor = self._watched[slot] = Monitor(
            shipped,
            share=self._options.shadow,
            interval_days=self._options.false_alarm_interval_days,
            labels=slot.reference.manifest.labels,
            schedule=self._limits.offer,
        )
        if self._options.worst_samples:
            slot.worst = WorstSamples(self._options.worst_samples)
        if self._options.state_dir is not None and slot.model is not None:
            file = StateFile(self._options.state_dir, f"{slot.name}-{slot.version}", slot.model.sha256)
            self._files[slot] = file
            if file.restore(slot.monitor) and slot.monitor.state == "alarm":
                self._worker.offer(partial(self._alarmed, slot, slot.monitor.report().reason))

    def _save(self, slot: Slot, monitor: Monitor) -> None:
        file = self._files.get(slot)
        if file is not None:
            file.save(monitor)

    def _reference(self, slot: Slot) -> tuple[Model, Drift]:
        if slot.model is None:
            raise LoadError("The model is not loaded.")
        ours = slot.model.manifest
        if ours.drift is None or METRIC not in ours.drift.scores:
            raise LoadError(f"The artifact ships no drift null for {METRIC}.")
        path = slot.path.with_name(f"{slot.path.name}-reference")
        if not path.is_dir():
            raise LoadError(f"No reference beside the artifact: expected {path.name}.")
        beside = Artifact.open(path, public_key=self._options.public_key)
        # Both carry what the reference answered to the probes: other answers are those of another reference, as an
        # interrupted overwrite can leave behind.
        ours_told = Artifact.open(slot.path, verify=False).canaries().logits_reference
        if not np.array_equal(ours_told, beside.canaries().logits_reference):
            raise LoadError(f"{path.name} is not the reference that this artifact was compared with.")
        reference = Model(
            beside,
            threads=self._options.threads,
            observer=self._observer,
            fixed_batch=self._options.fixed_batch,
            memory=self._options.memory,
        )
        theirs = reference.manifest
        if (theirs.inputs, theirs.outputs, theirs.default_explainer) != (
            ours.inputs,
            ours.outputs,
            ours.default_explainer,
        ):
            raise LoadError("The reference takes other inputs or has another default explainer.")
        if reference.integrity.state == "failed":
            raise LoadError(f"The reference fails its self-test. {reference.integrity.reason}")
        return reference, ours.drift

    def sample(self, slot: Slot, feed: Mapping[str, NDArray[Any]]) -> None:
        """Offer the rows of one answered request; returns at once whatever the background does."""
        rows = len(next(iter(feed.values())))
        if slot.model is None or slot.reference is None or slot.monitor is None:
            self._observer.skipped(slot.name, "no_reference", rows)
            return
        chosen = np.flatnonzero(self._rng.random(rows) < self._options.shadow)
        out = rows - chosen.size
        if out:
            slot.monitor.skip(sampled_out=out)
            self._observer.skipped(slot.name, "sampled_out", out)
        for start in range(0, chosen.size, _ROWS):
            part = chosen[start : start + _ROWS]
            # Indexing copies: the arrays may be views of a request body that is about to go.
            inputs = {name: values[part] for name, values in feed.items()}
            job = partial(self._compare, slot, slot.model, slot.reference, slot.monitor, inputs)
            if not self._worker.offer(job):
                slot.monitor.skip(dropped=part.size)
                self._observer.skipped(slot.name, "budget", part.size)

    def _compare(
        self,
        slot: Slot,
        model: Model,
        reference: Model,
        monitor: Monitor,
        inputs: Mapping[str, NDArray[Any]],
    ) -> None:
        comparison = compare(reference.explain_default, model.explain_default, inputs)
        before = monitor.state
        monitor.observe(comparison)
        self._observer.compared(model.name, "shadow", comparison)
        if slot.worst is not None and comparison.classes is not None:
            slot.worst.add(comparison.scores[METRIC], comparison.classes.tolist(), inputs)
        changed = monitor.state != before
        if changed or time.monotonic() - self._saved > _SAVE_SECONDS:
            self._saved = time.monotonic()
            for other, its in list(self._watched.items()):
                self._save(other, its)
        if changed and monitor.state == "alarm":
            self._alarmed(slot, monitor.report().reason)

    def report(self, slot: Slot) -> DriftReport:
        """Return what is known about one model's drift."""
        if slot.monitor is not None:
            return slot.monitor.report()
        return DriftReport("disabled", self._reasons.get(slot, ""), "none", self._options.shadow)

    def drain(self) -> None:
        """Wait until every queued comparison is done, and the limits it asked for are solved."""
        self._worker.drain()
        self._limits.drain()

    def close(self) -> None:
        """Stop the background threads."""
        self._worker.close()
        self._limits.close(0.0)
        for slot, monitor in self._watched.items():
            self._save(slot, monitor)
