"""Question three's verdict: whether the paired scores have left this model's own calibrated null."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clearweight.artifact import OTHER, Drift
from clearweight.service.drift.chart import STATES
from clearweight.service.drift.charts import METRIC, RISE, Watched, charts_of
from clearweight.service.drift.copula import autoregression
from clearweight.service.drift.dependence import LiveDependence
from clearweight.service.drift.null import GUARD, effective_samples, score_null
from clearweight.service.drift.power import Power, detection_delay
from clearweight.service.drift.rate import DAY, RateMeter
from clearweight.service.drift.report import ClassReport, DriftReport, WindowReport
from clearweight.service.drift.shadow import Comparison

MIN_CALIBRATION = 50
"""Independent calibration samples below which no limit is trustworthy."""
COLLECTING = 20
"""Comparisons before a quiet chart is called normal."""
WINDOW = 256
_REFRESH = 32
"""Comparisons between two looks at what the limits depend on."""
_STEPS_PER_OCTAVE = 4
_HOLD = 0.9
"""Steps that a value may be off before its limits are solved anew; with half a step they would be at every waver."""
_COUNTS = 5


@dataclass(frozen=True)
class _Conditions:
    """What limits depend on beside the null, in steps coarse enough that they change rarely."""

    rate: int
    autocorrelation: float | None
    family: float
    shares: tuple[int, ...]


class Monitor:
    """Feeds comparisons to the charts of one model.

    Limits are solved for ``interval_days`` at the measured rate of comparisons, over all series of the device, and
    solved again when that rate, the share of a class, or the dependence of the live scores has changed.

    Parameters
    ----------
    shipped : Drift
        The null of the manifest.
    share : float in (0, 1]
        Sampled share of rows, for the report.
    interval_days : float
        Wanted time between false alarms of the whole device.
    family : float, optional
        Weight of all series on the device, this model's included; default this model's.
    labels : sequence of str
        Names of the classes.
    schedule : callable
        Runs the solving of limits, which takes a second or two the first time; default at once.
    """

    def __init__(
        self,
        shipped: Drift,
        *,
        share: float,
        interval_days: float,
        family: float | None = None,
        labels: Sequence[str] = (),
        source: str = "shadow",
        clock: Callable[[], float] = time.monotonic,
        schedule: Callable[[Callable[[], None]], object] = lambda work: work(),
    ) -> None:
        self._null = null = shipped.scores[METRIC]
        self._plain = score_null(null, rise=RISE)
        self._share, self._interval_days, self.source = share, interval_days, source
        self._schedule = schedule
        self._lock = threading.Lock()
        self._watched = charts_of(shipped, labels)
        self.family = self.weight if family is None else family
        self._calibration = effective_samples(null)
        self._enough = self._calibration >= MIN_CALIBRATION
        self._rate = RateMeter(clock)
        self._dependence = LiveDependence(self._plain.marginal)
        self._shipped_autocorrelation = float(self._plain.coefficients.sum())
        self._conditions: _Conditions | None = None
        self._solving = False
        self._power: Power | None = None
        self._compared = self._undefined = self._disagreements = self._sampled_out = self._dropped = 0
        self._last: float | None = None
        self._windows: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in shipped.scores}
        self._by_class = {entry.index: entry for entry in self._watched if entry.index is not None}
        self._class_counts = dict.fromkeys(self._by_class, 0)
        self._class_windows: dict[int, deque[float]] = {i: deque(maxlen=WINDOW) for i in self._by_class}
        self.state = self._judge()[0]

    @property
    def weight(self) -> float:
        """What this model's charts weigh together in the device's false-alarm budget."""
        return sum(entry.weight for entry in self._watched)

    def skip(self, sampled_out: int = 0, dropped: int = 0) -> None:
        """Count rows that were not compared."""
        with self._lock:
            self._sampled_out += sampled_out
            self._dropped += dropped

    def observe(self, comparison: Comparison) -> None:
        """Take the scores of some rows, in their order.

        An undefined score moves neither the average nor the window; it is an event of its own chart, so a stream
        that turns undefined raises an alarm instead of silence.
        """
        with self._lock:
            rows = len(comparison.disagreement)
            self._compared += rows
            self._last = time.time()
            self._rate.add(rows)
            classes = comparison.classes if comparison.classes is not None else np.full(rows, OTHER)
            for score, flipped, label in zip(
                comparison.scores[METRIC], comparison.disagreement, classes, strict=True
            ):
                self._take(float(score), bool(flipped), int(label))
            for name, scores in comparison.scores.items():
                window = self._windows.setdefault(name, deque(maxlen=WINDOW))
                window.extend(float(score) for score in scores if np.isfinite(score))
            self._windows.setdefault("disagreement", deque(maxlen=WINDOW)).extend(
                float(flipped) for flipped in comparison.disagreement
            )
            self.state = self._judge()[0]
            due = self._compared % _REFRESH < rows
        if due:
            self.refresh()

    def _take(self, score: float, flipped: bool, label: int) -> None:
        defined = math.isfinite(score)
        average, cusum, disagreement, undefined = (entry.chart for entry in self._watched[:4])
        disagreement.update(float(flipped))
        undefined.update(float(not defined))
        self._undefined += not defined
        self._disagreements += flipped
        if not defined:
            return
        self._dependence.add(score)
        average.update(score)
        cusum.update(score)
        index = label if label in self._by_class else OTHER
        if index in self._by_class:
            self._by_class[index].chart.update(score)
            self._class_counts[index] += 1
            self._class_windows[index].append(score)

    # -- limits ---------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Have the limits solved where the conditions they hold for have changed."""
        if not self._enough:
            return
        with self._lock:
            if self._solving or self._measured() == self._conditions:
                return
            self._solving = True
        self._schedule(self._solve)

    def _measured(self) -> _Conditions:
        held = self._conditions
        shares = held.shares if held is not None else [None] * len(self._watched)
        return _Conditions(
            _step(self._rate.per_second, None if held is None else held.rate),
            self._dependence.above(self._shipped_autocorrelation),
            self.family,
            tuple(
                _step(self._share_of(entry), share)
                for entry, share in zip(self._watched, shares, strict=True)
            ),
        )

    def _share_of(self, entry: Watched) -> float:
        if entry.index is None:
            return 1.0
        counted = sum(self._class_counts.values())
        # The calibration's share weighs as much as its samples.
        prior = entry.share * self._null.samples
        return (self._class_counts[entry.index] + prior) / (counted + self._null.samples)

    def _solve(self) -> None:
        with self._lock:
            conditions = self._measured()
        live = conditions.autocorrelation
        dependence = self._plain.coefficients if live is None else autoregression([live])
        scores_per_interval = self._interval_days * DAY * _value(conditions.rate) * conditions.family
        samples = [
            scores_per_interval * _value(share) / entry.weight
            for entry, share in zip(self._watched, conditions.shares, strict=True)
        ]
        limits = [
            entry.limits(dependence, wanted) for entry, wanted in zip(self._watched, samples, strict=True)
        ]
        pessimistic = self._watched[0].null(dependence, guard=-GUARD)
        score_charts = [
            (entry.chart.detector, limit)
            for entry, (_, limit) in zip(self._watched[:2], limits, strict=False)
        ]
        power = detection_delay(score_charts, pessimistic, RISE)
        with self._lock:
            for entry, solved, wanted in zip(self._watched, limits, samples, strict=True):
                entry.chart.limits, entry.chart.interval_samples = solved, wanted
            self._conditions, self._power, self._solving = conditions, power, False
            self.state = self._judge()[0]

    # -- verdict --------------------------------------------------------------------------------------------------

    def _judge(self) -> tuple[str, str]:
        if not self._enough:
            return (
                "insufficient_calibration",
                f"The null rests on {self._calibration:.0f} independent samples; limits need {MIN_CALIBRATION}.",
            )
        charts = [entry.chart for entry in self._watched]
        state = max((chart.state for chart in charts), key=STATES.index)
        if state in ("warning", "alarm"):
            named = ", ".join(_title(chart.metric, chart.label) for chart in charts if chart.state == state)
            return state, f"Above the {state} limit: {named}."
        if self._compared < COLLECTING:
            return "collecting", f"{self._compared} of the first {COLLECTING} comparisons done."
        return state, ""

    def report(self) -> DriftReport:
        """Return everything known, consistent in itself."""
        with self._lock:
            state, reason = self._judge()
            return DriftReport(
                state=state,
                reason=reason,
                source=self.source,
                share=self._share,
                compared=self._compared,
                undefined=self._undefined,
                disagreements=self._disagreements,
                sampled_out=self._sampled_out,
                dropped=self._dropped,
                comparisons_per_second=self._rate.per_second,
                false_alarm_interval_days=self._interval_days,
                series_on_device=self.family,
                calibration_samples=self._calibration,
                autocorrelation=self._conditions.autocorrelation if self._conditions else None,
                last_sample_timestamp_seconds=self._last,
                power=self._power,
                series=[entry.chart.report() for entry in self._watched],
                window={name: _summary(window) for name, window in self._windows.items()},
                classes={
                    entry.chart.label: ClassReport(
                        self._class_counts[index], _summary(self._class_windows[index])
                    )
                    for index, entry in self._by_class.items()
                },
            )

    # -- what outlives the process --------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the charts' state as JSON values."""
        with self._lock:
            return {
                "charts": {
                    entry.chart.name: [
                        entry.chart.detector.statistic,
                        entry.chart.alarmed,
                        entry.chart.alarms,
                    ]
                    for entry in self._watched
                },
                "counts": [
                    self._compared,
                    self._undefined,
                    self._disagreements,
                    self._sampled_out,
                    self._dropped,
                ],
                "classes": {str(index): count for index, count in self._class_counts.items()},
                "rate": [self._rate.count, self._rate.seconds],
                "dependence": list(self._dependence.windows),
                "last": self._last,
            }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a ``snapshot`` of the same model.

        Raises
        ------
        ValueError, TypeError, KeyError
            The state is not one of these charts; nothing was taken over.
        """
        charts = {entry.chart.name: entry.chart for entry in self._watched}
        if set(state["charts"]) != set(charts):
            raise ValueError(f"The charts are {sorted(state['charts'])}, expected {sorted(charts)}.")
        told = {
            name: (_finite(statistic), bool(alarmed), int(alarms))
            for name, (statistic, alarmed, alarms) in state["charts"].items()
        }
        counts = [int(count) for count in state["counts"]]
        if len(counts) != _COUNTS:
            raise ValueError(f"There are {len(counts)} counts, expected {_COUNTS}.")
        classes = {index: int(state["classes"][str(index)]) for index in self._class_counts}
        rate = [_finite(value) for value in state["rate"]]
        dependence = [_finite(value) for value in state["dependence"]]
        last = None if state["last"] is None else _finite(state["last"])
        with self._lock:
            for name, (statistic, alarmed, alarms) in told.items():
                charts[name].detector.statistic = statistic
                charts[name].alarmed, charts[name].alarms = alarmed, alarms
            self._compared, self._undefined, self._disagreements, self._sampled_out, self._dropped = counts
            self._class_counts = classes
            self._rate.count, self._rate.seconds = rate
            self._dependence.windows.clear()
            self._dependence.windows.extend(dependence)
            self._last = last
            self.state = self._judge()[0]


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"Found {value!r}, expected a finite number.")
    return number


def _step(value: float, held: int | None) -> int:
    """Return the step nearest to a value; the one in force until the value is nearly at another."""
    exact = _STEPS_PER_OCTAVE * math.log2(value)
    return held if held is not None and abs(exact - held) < _HOLD else round(exact)


def _value(step: int) -> float:
    return float(2.0 ** (step / _STEPS_PER_OCTAVE))


def _title(metric: str, label: str) -> str:
    return f"{metric} of class {label}" if label else metric


def _summary(window: deque[float]) -> WindowReport:
    if not window:
        return WindowReport(None, None, None)
    values = np.array(window)
    return WindowReport(
        float(values.mean()), float(np.quantile(values, 0.5)), float(np.quantile(values, 0.95))
    )
