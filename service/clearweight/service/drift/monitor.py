"""Question three's verdict: whether the paired scores have left this model's own calibrated null."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from clearweight.artifact import Drift
from clearweight.service.drift.bernoulli_cusum import BernoulliCusum
from clearweight.service.drift.ewma import Ewma
from clearweight.service.drift.null import event_null, event_rate_bound, mean_error, score_null
from clearweight.service.drift.run_length import Detector, RunLengthCurve, run_length_curve
from clearweight.service.drift.shadow import Comparison

METRIC = "pooled_cosine"
"""The score the alarm runs on."""
SERIES = 3
"""Charts per model; the operator's false-alarm interval is shared by all of them."""
MIN_CALIBRATION = 50
"""Calibration samples below which no limit is trustworthy."""
COLLECTING = 20
"""Comparisons before a quiet chart is called normal."""
WINDOW = 256
_PRIOR_SECONDS = 60.0
_DAY = 86400.0
_WARNING_SHARE = 1.0 / 30.0
STATES = ("disabled", "calibrating", "collecting", "normal", "warning", "alarm")


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """One chart: where it stands and where its limits are."""

    metric: str
    detector: str
    statistic: float
    warning_limit: float | None
    limit: float | None
    state: str
    alarms: int


@dataclass(frozen=True, slots=True)
class WindowReport:
    """The newest scores of one metric; None before the first."""

    mean: float | None
    q50: float | None
    q95: float | None


@dataclass(frozen=True, slots=True)
class DriftReport:
    """All that is known about live drift."""

    state: str
    reason: str
    source: str
    share: float
    compared: int = 0
    undefined: int = 0
    disagreements: int = 0
    sampled_out: int = 0
    dropped: int = 0
    comparisons_per_second: float = 0.0
    false_alarm_interval_days: float = 0.0
    last_sample_timestamp_seconds: float | None = None
    series: Sequence[SeriesReport] = ()
    window: dict[str, WindowReport] = field(default_factory=dict)


class _Series:
    """One detector with its curve, its current limits and its alarm."""

    def __init__(self, metric: str, detector: Detector, name: str, guard: float, floor: float) -> None:
        self.metric, self.detector, self.name = metric, detector, name
        self.guard, self.floor = guard, floor
        self.limits: tuple[float, float] | None = None
        self.alarmed = False
        self.alarms = 0

    def set_limits(self, curve: RunLengthCurve, samples: float) -> None:
        warning, alarm = (
            max(curve.limit(max(share * samples, 2.0)) + self.guard, self.floor)
            for share in (_WARNING_SHARE, 1.0)
        )
        self.limits = (warning, alarm)

    def update(self, score: float) -> None:
        statistic = self.detector.update(score)
        if self.limits is None:
            return
        warning, alarm = self.limits
        if not self.alarmed and statistic > alarm:
            self.alarmed = True
            self.alarms += 1
        elif self.alarmed and statistic <= warning:
            self.alarmed = False  # an alarm holds until the chart is quiet, not merely below its limit

    @property
    def state(self) -> str:
        if self.alarmed:
            return "alarm"
        if self.limits is None:
            return "collecting"
        return "warning" if self.detector.statistic > self.limits[0] else "normal"

    def report(self) -> SeriesReport:
        warning, alarm = self.limits or (None, None)
        return SeriesReport(
            self.metric, self.name, self.detector.statistic, warning, alarm, self.state, self.alarms
        )


class Monitor:
    """Feeds comparisons to the charts of one model.

    Limits are solved for ``interval_days`` at the measured rate of comparisons, over ``family`` series in all,
    and solved again whenever that rate has doubled or halved. The first comparison pays for the simulation, in
    the thread that compares.

    Parameters
    ----------
    shipped : Drift
        The null of the manifest.
    share : float in (0, 1]
        Sampled share of rows, for the report.
    interval_days : float
        Wanted time between false alarms of the whole device.
    family : int
        Series on the device, this model's included.
    """

    def __init__(
        self,
        shipped: Drift,
        *,
        share: float,
        interval_days: float,
        family: int = SERIES,
        source: str = "shadow",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        null = shipped.scores[METRIC]
        self._share, self._interval_days, self._family, self._source = share, interval_days, family, source
        self._clock, self._started = clock, clock()
        self._lock = threading.Lock()
        self._compared = self._undefined = self._disagreements = self._sampled_out = self._dropped = 0
        self._last: float | None = None
        self._windows: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in shipped.scores}
        self._rate_step: int | None = None
        self._curves: list[RunLengthCurve] = []
        self._enough = null.samples >= MIN_CALIBRATION
        self._calibration = null.samples
        self.state = "collecting" if self._enough else "calibrating"
        flips = shipped.scores.get("disagreement")
        flip_rate = event_rate_bound(flips.mean * flips.samples if flips else 0.0, null.samples)
        undefined_rate = event_rate_bound(null.undefined, null.samples + null.undefined)
        self._nulls = (score_null(null), event_null(flip_rate), event_null(undefined_rate))
        self._series = (
            _Series(METRIC, Ewma(null.mean), Ewma.name, 1.645 * mean_error(null), null.runtime_floor),
            _Series("disagreement", BernoulliCusum(flip_rate), BernoulliCusum.name, 0.0, 0.0),
            _Series("undefined", BernoulliCusum(undefined_rate), BernoulliCusum.name, 0.0, 0.0),
        )

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
        if self._enough and not self._curves:
            self._curves = [
                run_length_curve(series.detector, null)
                for series, null in zip(self._series, self._nulls, strict=True)
            ]
        with self._lock:
            self._compared += len(comparison.disagreement)
            self._last = time.time()
            self._solve()
            distance, disagreement, undefined = self._series
            for score, flipped in zip(comparison.scores[METRIC], comparison.disagreement, strict=True):
                defined = bool(np.isfinite(score))
                if defined:
                    distance.update(float(score))
                disagreement.update(float(flipped))
                undefined.update(float(not defined))
                self._undefined += not defined
                self._disagreements += bool(flipped)
            for name, scores in comparison.scores.items():
                window = self._windows.setdefault(name, deque(maxlen=WINDOW))
                window.extend(float(score) for score in scores if np.isfinite(score))
            self._windows.setdefault("disagreement", deque(maxlen=WINDOW)).extend(
                float(flipped) for flipped in comparison.disagreement
            )
            self.state = self._judge()[0]

    def _rate(self) -> float:
        # One comparison per second is assumed until the first minutes say otherwise.
        return (self._compared + _PRIOR_SECONDS) / (self._clock() - self._started + _PRIOR_SECONDS)

    def _solve(self) -> None:
        rate = self._rate()
        step = round(float(np.log2(rate)))
        if not self._curves or step == self._rate_step:
            return
        self._rate_step = step
        samples = self._interval_days * _DAY * 2.0**step * self._family
        for series, curve in zip(self._series, self._curves, strict=True):
            series.set_limits(curve, samples)

    def _judge(self) -> tuple[str, str]:
        if not self._enough:
            return (
                "calibrating",
                f"The null was calibrated on {self._calibration} samples; limits need {MIN_CALIBRATION}.",
            )
        state = max((chart.state for chart in self._series), key=STATES.index)
        if state in ("warning", "alarm"):
            metrics = ", ".join(chart.metric for chart in self._series if chart.state == state)
            return state, f"Above the {state} limit: {metrics}."
        if self._compared < COLLECTING:
            return "collecting", f"{self._compared} of the first {COLLECTING} comparisons done."
        return state, ""

    def report(self) -> DriftReport:
        """Return everything known, consistent in itself."""
        with self._lock:
            series = [chart.report() for chart in self._series]
            state, reason = self._judge()
            return DriftReport(
                state=state,
                reason=reason,
                source=self._source,
                share=self._share,
                compared=self._compared,
                undefined=self._undefined,
                disagreements=self._disagreements,
                sampled_out=self._sampled_out,
                dropped=self._dropped,
                comparisons_per_second=self._rate(),
                false_alarm_interval_days=self._interval_days,
                last_sample_timestamp_seconds=self._last,
                series=series,
                window={name: _summary(window) for name, window in self._windows.items()},
            )


def _summary(window: deque[float]) -> WindowReport:
    if not window:
        return WindowReport(None, None, None)
    values = np.array(window)
    return WindowReport(
        float(values.mean()), float(np.quantile(values, 0.5)), float(np.quantile(values, 0.95))
    )
