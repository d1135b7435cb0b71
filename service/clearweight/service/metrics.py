"""Prometheus metrics: one label set for both transports, bounded label values, a registry of their own.

What happens per request is counted as it happens; what merely stands (queues, verdicts, limits) is read when
somebody scrapes.
"""

from collections.abc import Iterable, Iterator
from importlib.metadata import version as installed_version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from clearweight.service.core.dataplane import Dataplane
from clearweight.service.core.engine import VERBS
from clearweight.service.core.observer import Observer
from clearweight.service.drift import Comparison, DriftReport, IntegrityReport
from clearweight.service.drift.charts import METRIC

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RUN_SECONDS = (0.0001, 0.00025, *_SECONDS)
_DISTANCE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
_ERROR = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
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
        ProcessCollector(
            registry=self.registry
        )  # memory, processor time and files, under their standard names

    def watch(self, plane: Dataplane) -> None:
        """Read the gauges from this dataplane at every scrape."""
        self.registry.register(_Standing(plane))

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as text, in the format the scraper asks for, and its content type."""
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


class _Counting(Observer):
    """Counts what the core reports."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"clearweight_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(f"clearweight_{name}", text, labels, registry=registry, buckets=tuple(buckets))

        which = ("model", "version", "verb", "protocol")
        self._requests = counter("requests_total", "Requests answered.", *which, "code")
        self._durations = histogram(
            "request_duration_seconds", "Time from the request's head to its answer.", _SECONDS, *which
        )
        self._rejected = counter("requests_rejected_total", "Requests turned away before they ran.", "reason")
        self._waits = histogram("queue_wait_seconds", "Time work waited for a worker.", _SECONDS, "verb")
        self._batches = histogram("batch_size", "Rows per run.", _ROWS, "verb")
        self._runs = histogram("ort_run_duration_seconds", "Time in ONNX Runtime.", _RUN_SECONDS, "stage")
        self._passes = counter("explain_forward_passes_total", "Rows explained.", "model")
        self._completeness = histogram(
            "explain_completeness_error", "Absolute completeness error per row.", _ERROR, "model", "method"
        )
        self._drift = histogram(
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
        self._rejected_children = {reason: self._rejected.labels(reason) for reason in _REJECTED}
        self._wait_children = {verb: self._waits.labels(verb) for verb in VERBS}
        self._run_children = {stage: self._runs.labels(stage) for stage in _STAGES}
        self._batch_children = {verb: self._batches.labels(verb) for verb in VERBS}
        self._begun: set[str] = set()
        self._request_children: dict[tuple[str, ...], Any] = {}
        self._duration_children: dict[tuple[str, ...], Any] = {}
        self._skipped_children: dict[tuple[str, str], Any] = {}

    def request(self, model: str, version: str, verb: str, protocol: str, code: str, seconds: float) -> None:
        key = (model, version, verb, protocol, code)
        child = self._request_children.get(key)
        if child is None:
            child = self._request_children[key] = self._requests.labels(*key)
            self._duration_children[key] = self._durations.labels(*key[:-1])
        child.inc()
        self._duration_children[key].observe(seconds)

    def rejected(self, reason: str) -> None:
        self._rejected_children[reason].inc()

    def queued(self, verb: str, seconds: float) -> None:
        self._wait_children[verb].observe(seconds)

    def ran(self, stage: str, rows: int, seconds: float) -> None:
        self._run_children[stage].observe(seconds)
        batches = self._batch_children.get(stage)
        if batches is not None:
            batches.observe(rows)

    def explained(self, model: str, method: str, rows: int, completeness_error: NDArray[Any] | None) -> None:
        self._passes.labels(model).inc(rows)
        if completeness_error is not None:
            child = self._completeness.labels(model, method)
            for error in np.abs(completeness_error):
                child.observe(float(error))

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
            child = self._drift.labels(model, metric, source)
            for value in values[np.isfinite(values)]:
                child.observe(float(value))
            self._undefined.labels(model, metric).inc(int(np.sum(~np.isfinite(values))))

    def skipped(self, model: str, reason: str, rows: int) -> None:
        child = self._skipped_children.get((model, reason))
        if child is None:
            self._begin(model)
            child = self._skipped_children[model, reason] = self._skipped.labels(model, reason)
        child.inc(rows)

    def checked(self, model: str, version: str, variant: str, report: IntegrityReport) -> None:
        self._checks.labels(model, version, variant, report.state).inc()
        self._checked.labels(model, version, variant).set_to_current_time()


class _Standing(Collector):
    """Reads queues, verdicts and limits when scraped."""

    def __init__(self, plane: Dataplane) -> None:
        self._plane = plane

    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "build_info", "The running version.", ("version",), [((installed_version("clearweight"),), 1)]
        )
        yield from self._queues()
        yield from self._models()
        yield from self._drift()

    def _queues(self) -> Iterator[Metric]:
        lanes = self._plane.lanes.values()
        yield _gauge(
            "requests_in_progress",
            "Requests being answered.",
            ("verb",),
            [((v,), n) for v, n in self._plane.in_progress.items()],
        )
        yield _gauge(
            "queue_depth", "Work waiting for a worker.", ("verb",), [((x.verb,), x.depth) for x in lanes]
        )
        yield _gauge(
            "queue_capacity", "Work that may wait.", ("verb",), [((x.verb,), x.capacity) for x in lanes]
        )

    def _models(self) -> Iterator[Metric]:
        slots = list(self._plane.engine.repository)
        which = ("model", "version")
        yield _gauge(
            "model_ready",
            "1 when this version serves.",
            which,
            [((s.name, s.version), s.ready) for s in slots],
        )
        loaded = [(s, s.model) for s in slots if s.model is not None]
        yield _gauge(
            "model_info",
            "The loaded artifact.",
            (*which, "variant", "sha256"),
            [((m.name, m.version, m.manifest.variant, m.sha256), 1) for _, m in loaded],
        )
        yield _gauge(
            "fidelity_passed",
            "1 when the artifact's fidelity record passes its budget; no value where none was measured.",
            which,
            [
                ((m.name, m.version), m.fidelity.state == "passed")
                for _, m in loaded
                if m.fidelity.state != "not_measured"
            ],
        )
        records = [(m, m.fidelity.record) for _, m in loaded if m.fidelity.record is not None]
        yield _gauge(
            "fidelity_similarity_ratio",
            "Mean attribution similarity to the reference at export.",
            (*which, "metric"),
            [((m.name, m.version, k), v.mean) for m, record in records for k, v in record.similarity.items()],
        )
        yield _gauge(
            "integrity_passed",
            "1 when the last self-test on the canaries passed.",
            which,
            [((m.name, m.version), m.integrity.state == "passed") for _, m in loaded],
        )
        yield _gauge(
            "integrity_logits_error",
            "Worst logit error on the canaries.",
            which,
            [((m.name, m.version), m.integrity.logits_error) for _, m in loaded],
        )

    def _drift(self) -> Iterator[Metric]:
        reports = [
            (s.name, s.version, s.monitor.report()) for s in self._plane.engine.repository if s.monitor
        ]
        which = ("model", "version", "metric")
        yield _gauge(
            "attribution_drift_window",
            "Newest distances of the compared rows.",
            (*which, "stat"),
            [
                ((name, version, metric, stat), getattr(window, stat))
                for name, version, report in reports
                for metric, window in report.window.items()
                for stat in ("mean", "q50", "q95")
                if window.mean is not None
            ],
        )
        charts = [(name, version, chart) for name, version, report in reports for chart in report.series]
        of_chart = (*which, "detector", "class")
        keys = [
            (name, version, chart.metric, chart.detector, chart.label or "all")
            for name, version, chart in charts
        ]
        for gauge, text, values in (
            ("statistic", "Where each chart stands.", [chart.statistic for _, _, chart in charts]),
            ("threshold", "Alarm limit of each chart.", [chart.limit for _, _, chart in charts]),
            ("alarm", "1 while a chart is in alarm.", [chart.state == "alarm" for _, _, chart in charts]),
        ):
            yield _gauge(
                f"attribution_drift_{gauge}",
                text,
                of_chart,
                [(key, value) for key, value in zip(keys, values, strict=True) if value is not None],
            )
        yield _gauge(
            "attribution_drift_class_mean",
            "Mean of the newest distances of one explained class.",
            (*which, "class"),
            [
                ((name, version, METRIC, label), found.window.mean)
                for name, version, report in reports
                for label, found in report.classes.items()
                if found.window.mean is not None
            ],
        )
        yield _gauge(
            "attribution_drift_detection_delay_samples",
            "Comparisons within which the limits in force find a rise of 0.05 of the mean distance, 19 times in 20.",
            ("model", "version"),
            [
                ((name, version), report.power.delay_samples_p95)
                for name, version, report in reports
                if report.power is not None and report.power.delay_samples_p95 is not None
            ],
        )
        yield _gauge(
            "attribution_drift_last_sample_timestamp_seconds",
            "When a row was last compared.",
            ("model", "version"),
            [
                ((name, version), stamp)
                for name, version, report in reports
                if (stamp := _stamp(report)) is not None
            ],
        )


def _stamp(report: DriftReport) -> float | None:
    return report.last_sample_timestamp_seconds


def _gauge(
    name: str, text: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"clearweight_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, float(value))
    return family
