"""Live drift beside the requests: samples rows, runs the reference in the background, keeps the verdicts."""

import logging
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
from clearweight.service.drift.draws import Draws
from clearweight.service.drift.pace import Account
from clearweight.service.drift.remote_options import RemoteOptions, RemoteReferenceError
from clearweight.service.drift.shadow import Explain
from clearweight.service.drift.state_file import StateFile
from clearweight.service.drift.waiting_rows import WaitingRows
from clearweight.service.drift.worst_samples import WorstSamples

_LOG = logging.getLogger("clearweight.service")
_ROWS = 8
"""Rows of one comparison: enough to share what a run costs, few enough that one large request cannot hold the queue."""
_SAVE_SECONDS = 2.0
"""Comparisons of so many seconds may be lost when the process is killed."""
_SOLVING = 4096
"""Models whose limits may wait to be solved: each waits once at most."""


class Watch:
    """Compares a share of the rows with the uncompressed reference beside each artifact.

    The reference lies beside the artifact, or is served elsewhere. A model without one, or without a shipped null, is
    not watched; its report says why.

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
        self._draws: dict[Slot, Draws] = {}
        self._alarmed = alarmed
        self._reasons: dict[Slot, str] = {}
        self._explain: dict[Slot, Explain] = {}
        self._unreachable = False
        self._files: dict[Slot, StateFile] = {}
        self._saved = time.monotonic()
        self._watched: dict[Slot, Monitor] = {}
        self._waiting: dict[Slot, WaitingRows] = {}
        # Solving limits counts like comparing. A thread is booked for itself alone, and runs have others to help them.
        account = Account(options.shadow_cpu_share / options.threads)
        self._limits = ShadowWorker(_SOLVING, account, "limits")
        self._worker = ShadowWorker(options.shadow_queue, account)
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
        _hang_up(self._explain.pop(slot, None))
        self._waiting.pop(slot, None)
        self._count_passed(slot)
        self._draws.pop(slot, None)
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
            model, shipped = _calibrated(slot)
            if self._options.reference is None:
                slot.reference = self._beside(slot, model)
                self._explain[slot] = slot.reference.explain_default
            else:
                self._explain[slot] = self._remote(model, self._options.reference)
        except (ArtifactError, LoadError, OSError) as error:
            self._reasons[slot] = str(error)
            return
        self._waiting[slot] = WaitingRows(_ROWS)
        slot.monitor = self._watched[slot] = Monitor(
            shipped,
            share=self._options.shadow,
            interval_days=self._options.false_alarm_interval_days,
            labels=model.manifest.labels,
            source="shadow" if self._options.reference is None else "remote",
            schedule=self._limits.offer,
        )
        self._draws[slot] = Draws(self._options.shadow, self._options.shadow_seed)
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
            self._count_passed(slot)
            file.save(monitor)

    def _remote(self, model: Model, options: RemoteOptions) -> Explain:
        """Return the explainer of the same model and version on another service, tested on the probes at first use."""
        # Four megabytes of HTTP and TLS that a device without a remote reference does without.
        from clearweight.service.drift.remote import Tested, reference_at  # noqa: PLC0415

        probes = {model.input_names[0]: model.prepare(model.canaries.inputs)}
        reference = reference_at(options, model.name, model.version, model.output_names[0])
        _LOG.warning(
            "Of the inputs of model %s, a share of %g is sent to %s.",
            model.name,
            self._options.shadow,
            options.url,
        )
        return Tested(reference, probes, model.canaries.logits_reference)

    def _beside(self, slot: Slot, model: Model) -> Model:
        """Load the reference that lies beside an artifact."""
        ours = model.manifest
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
        return reference

    def sample(self, slot: Slot, feed: Mapping[str, NDArray[Any]]) -> None:
        """Offer the rows of one answered request; returns at once whatever the background does."""
        rows = len(next(iter(feed.values())))
        draws = self._draws.get(slot)
        if draws is None:
            self._observer.skipped(slot.name, "no_reference", rows)
            return
        chosen = draws.among(rows)
        if chosen:
            self._offer(slot, feed, chosen)

    def _offer(self, slot: Slot, feed: Mapping[str, NDArray[Any]], chosen: list[int]) -> None:
        explain, monitor, waiting = self._explain.get(slot), slot.monitor, self._waiting.get(slot)
        if slot.model is None or explain is None or monitor is None or waiting is None:
            self._observer.skipped(slot.name, "no_reference", len(chosen))  # it was taken out meanwhile
            return
        for start in range(0, len(chosen), _ROWS):
            part = chosen[start : start + _ROWS]
            if not self._worker.full:
                # Indexing copies: the arrays may be views of a request body that is about to go.
                inputs = {name: values[part] for name, values in feed.items()}
                waiting.add(inputs)
                job = partial(self._compare, slot, slot.model, explain, monitor, waiting)
                if self._worker.offer(job) or not waiting.withdraw(inputs):
                    continue
            monitor.skip(dropped=len(part))
            self._observer.skipped(slot.name, "budget", len(part))

    def count_passed(self) -> None:
        """Count the rows that were let pass since this was last done; only then a request costs next to nothing."""
        for slot in list(self._draws):
            self._count_passed(slot)

    def _count_passed(self, slot: Slot) -> None:
        draws, monitor = self._draws.get(slot), slot.monitor
        if draws is not None and monitor is not None and (passed := draws.passed()):
            monitor.skip(sampled_out=passed)
            self._observer.skipped(slot.name, "sampled_out", passed)

    def _compare(
        self, slot: Slot, model: Model, explain: Explain, monitor: Monitor, waiting: WaitingRows
    ) -> None:
        """Compare what waits, as much as fits into one run; what an earlier job took along is done."""
        inputs = waiting.take()
        if inputs is None:
            return
        try:
            comparison = compare(explain, model.explain_default, inputs)
        except RemoteReferenceError as error:
            rows = len(next(iter(inputs.values())))
            monitor.skip(dropped=rows)
            self._observer.skipped(slot.name, "unreachable", rows)
            if not self._unreachable:  # once, not for every comparison until it is back
                _LOG.warning("The remote reference does not answer. %s", error)
            self._unreachable = True
            return
        self._unreachable = False
        before = monitor.state
        monitor.observe(comparison)
        self._observer.compared(model.name, monitor.source, comparison)
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
        self._count_passed(slot)
        if slot.monitor is not None:
            return slot.monitor.report()
        return DriftReport("disabled", self._reasons.get(slot, ""), "none", self._options.shadow)

    def drain(self) -> None:
        """Wait until every queued comparison is done, and the limits it asked for are solved."""
        self._worker.drain()
        self._limits.drain()
        self.count_passed()

    def close(self) -> None:
        """Stop the background threads."""
        self._worker.close()
        self._limits.close(0.0)
        for explain in self._explain.values():
            _hang_up(explain)
        for slot, monitor in self._watched.items():
            self._save(slot, monitor)


def _calibrated(slot: Slot) -> tuple[Model, Drift]:
    if slot.model is None:
        raise LoadError("The model is not loaded.")
    shipped = slot.model.manifest.drift
    if shipped is None or METRIC not in shipped.scores:
        raise LoadError(f"The artifact ships no drift null for {METRIC}.")
    return slot.model, shipped


def _hang_up(explain: Explain | None) -> None:
    close = getattr(explain, "close", None)  # what calls another service holds a connection
    if close is not None:
        close()
