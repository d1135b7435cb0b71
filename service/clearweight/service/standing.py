"""What merely stands, read when somebody scrapes: queues, verdicts, limits, charts."""

from collections.abc import Iterable, Iterator
from importlib.metadata import version as installed_version

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clearweight.service.core.dataplane import Dataplane
from clearweight.service.drift import DriftReport
from clearweight.service.drift.charts import METRIC


class Standing(Collector):
    """Reads queues, verdicts and limits when scraped."""

    def __init__(self, plane: Dataplane) -> None:
        self._plane = plane

    def collect(self) -> Iterator[Metric]:
        """Give the gauges as they are now."""
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
