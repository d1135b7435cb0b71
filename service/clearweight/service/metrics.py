"""Prometheus metrics: one label set for both transports, bounded label values, a registry of their own.

What happens per request is counted as it happens; what merely stands (``standing.py``) is read when somebody scrapes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from clearweight.service.core.dataplane import Dataplane
from clearweight.service.core.engine import VERBS
from clearweight.service.core.observer import Observer
from clearweight.service.drift import Comparison, IntegrityReport
from clearweight.service.standing import Standing
from clearweight.service.tally import MANY, Tallies, histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RUN_SECONDS = (0.0001, 0.00025, *_SECONDS)
_DISTANCE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
_ERROR = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_WHICH = ("model", "version", "verb", "protocol")
_STAGES = ("predict", "explain", "shadow", "canary")
_REJECTED = (
    "queue_full",
    "queue_timeout",
    "deadline",
    "cancelled",
    "draining",
    "unauthenticated",
    "forbidden",
)
_SKIPPED = ("sampled_out", "budget", "no_reference", "unreachable")


class Metrics:
    """All metrics of one service, over one registry.

    Parameters
    ----------
    registry : CollectorRegistry, optional
        Default a fresh one; nothing here is global.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.observer: Observer = _Counting(self.registry)
        self._before: Callable[[], None] = lambda: None
        ProcessCollector(
            registry=self.registry
        )  # memory, processor time and files, under their standard names

    def watch(self, plane: Dataplane) -> None:
        """Read the gauges from this dataplane at every scrape."""
        self.registry.register(Standing(plane))
        self._before = plane.engine.count_passed

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as text, in the format the scraper asks for, and its content type."""
        self._before()
        encode, kind = choose_encoder(accept)
        return encode(_Exposed(self.registry)), kind


class _Exposed(CollectorRegistry):
    """The registry without the ``_created`` series, which double every counter and say nothing of ours."""

    def __init__(self, inner: CollectorRegistry) -> None:
        super().__init__()
        self._inner = inner

    def collect(self) -> Iterator[Metric]:
        for family in self._inner.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class _Requests(Tallies):
    """Requests by what they came to, and the time they took, counted once and told twice.

    What each of them came to is a label of the count alone.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__("", "", _SECONDS, (*_WHICH, "code"), registry)

    def collect(self) -> Iterator[Metric]:
        """Give the counter and the histogram."""
        answered = CounterMetricFamily("clearweight_requests", "Requests answered.", labels=(*_WHICH, "code"))
        together: dict[tuple[str, ...], tuple[list[int], float]] = {}
        for values, (counts, total) in self.read().items():
            answered.add_metric(values, counts[-1])
            known, before = together.get(values[:-1], ([0] * len(counts), 0.0))
            together[values[:-1]] = (
                [one + other for one, other in zip(known, counts, strict=True)],
                before + total,
            )
        yield answered
        text = "Time from the request's head to its answer."
        yield histogram("clearweight_request_duration_seconds", text, _SECONDS, _WHICH, together)


class _Counting(Observer):
    """Counts what the core reports."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"clearweight_{name}", text, labels, registry=registry)

        def tallies(name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Tallies:
            return Tallies(f"clearweight_{name}", text, bounds, labels, registry)

        self._requests = _Requests(registry)
        self._rejected = counter("requests_rejected_total", "Requests turned away before they ran.", "reason")
        waits = tallies("queue_wait_seconds", "Time work waited for a worker.", _SECONDS, "verb")
        batches = tallies("batch_size", "Rows per run.", _ROWS, "verb")
        runs = tallies("ort_run_duration_seconds", "Time in ONNX Runtime.", _RUN_SECONDS, "stage")
        self._passes = counter("explain_forward_passes_total", "Rows explained.", "model")
        self._completeness = tallies(
            "explain_completeness_error", "Absolute completeness error per row.", _ERROR, "model", "method"
        )
        self._drift = tallies(
            "attribution_drift",
            "Distance between the maps of the compressed model and of the reference, per compared row.",
            _DISTANCE,
            "model",
            "metric",
            "source",
        )
        self._compared = counter("attribution_drift_compared_total", "Rows compared.", "model", "source")
        self._undefined = counter(
            "attribution_drift_undefined_total",
            "Compared rows whose distance is undefined.",
            "model",
            "metric",
        )
        self._skipped = counter("attribution_drift_skipped_total", "Rows not compared.", "model", "reason")
        self._flips = counter(
            "prediction_flip_total", "Compared rows where both models predict different classes.", "model"
        )
        self._checks = counter(
            "integrity_checks_total",
            "Self-tests on the canaries, by outcome.",
            "model",
            "version",
            "variant",
            "outcome",
        )
        self._checked = Gauge(
            "clearweight_integrity_last_check_timestamp_seconds",
            "When the last self-test on the canaries ended.",
            ("model", "version", "variant"),
            registry=registry,
        )
        # All series whose labels are known beforehand exist from the start.
        self._rejections = {reason: self._rejected.labels(reason) for reason in _REJECTED}
        self._waits = {verb: waits.of(verb) for verb in VERBS}
        sizes = {verb: batches.of(verb) for verb in VERBS}
        self._of_stage = {stage: (runs.of(stage), sizes.get(stage)) for stage in _STAGES}
        self._begun: set[str] = set()
        self._explained: dict[str, Counter] = {}
        self._skips: dict[tuple[str, str], Counter] = {}

    def request(self, model: str, version: str, verb: str, protocol: str, code: str, seconds: float) -> None:
        which = (model, version, verb, protocol, code)
        tally = self._requests.known.get(which) or self._requests.of(*which)
        new = tally.new  # here and below: what every request passes makes no call that it can do without
        new.append(seconds)
        if len(new) >= MANY:
            tally.read()

    def rejected(self, reason: str) -> None:
        self._rejections[reason].inc()

    def queued(self, verb: str, seconds: float) -> None:
        tally = self._waits[verb]
        new = tally.new
        new.append(seconds)
        if len(new) >= MANY:
            tally.read()

    def ran(self, stage: str, rows: int, seconds: float) -> None:
        runs, batches = self._of_stage[stage]
        runs.new.append(seconds)
        if batches is not None:
            batches.new.append(rows)
        if len(runs.new) >= MANY:
            runs.read()
            if batches is not None:
                batches.read()

    def explained(self, model: str, method: str, rows: int, completeness_error: NDArray[Any] | None) -> None:
        child = self._explained.get(model)
        if child is None:
            child = self._explained[model] = self._passes.labels(model)
        child.inc(rows)
        if completeness_error is not None:
            tally = self._completeness.of(model, method)
            for error in completeness_error.tolist():
                tally.observe(abs(error))

    def _begin(self, model: str) -> None:
        """Let the drift counters of a model exist from its first row on, so that a rate has a zero to start from."""
        if model not in self._begun:
            self._begun.add(model)
            self._flips.labels(model)
            for reason in _SKIPPED:
                self._skipped.labels(model, reason)

    def compared(self, model: str, source: str, comparison: Comparison) -> None:
        self._begin(model)
        self._compared.labels(model, source).inc(len(comparison.disagreement))
        self._flips.labels(model).inc(int(comparison.disagreement.sum()))
        scores = {**comparison.scores, "disagreement": comparison.disagreement.astype(np.float64)}
        for metric, values in scores.items():
            tally = self._drift.of(model, metric, source)
            for value in values[np.isfinite(values)].tolist():
                tally.observe(value)
            self._undefined.labels(model, metric).inc(int(np.sum(~np.isfinite(values))))

    def skipped(self, model: str, reason: str, rows: int) -> None:
        child = self._skips.get((model, reason))
        if child is None:
            self._begin(model)
            child = self._skips[model, reason] = self._skipped.labels(model, reason)
        child.inc(rows)

    def checked(self, model: str, version: str, variant: str, report: IntegrityReport) -> None:
        self._checks.labels(model, version, variant, report.state).inc()
        self._checked.labels(model, version, variant).set_to_current_time()
