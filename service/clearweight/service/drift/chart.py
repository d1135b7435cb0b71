"""One detector on one series, with its limits and its alarm."""

from dataclasses import dataclass

import numpy as np

from clearweight.service.drift.null import HELD, Null
from clearweight.service.drift.run_length import Detector, run_length_curve

WARNING_SHARE = 1.0 / 30.0
"""A warning comes that much more often than an alarm."""
STATES = ("disabled", "insufficient_calibration", "collecting", "normal", "warning", "alarm")


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """One chart: where it stands, where its limits are, and how many of its scores make the wanted interval.

    ``label`` is the explained class the chart is for, empty for all of them.
    """

    metric: str
    detector: str
    label: str
    statistic: float
    warning_limit: float | None
    limit: float | None
    interval_samples: float | None
    state: str
    alarms: int


class Chart:
    """Feeds scores to a detector and holds its alarm.

    Parameters
    ----------
    metric, label : str
        What the series is of.
    detector : Detector
    floor : float
        The limit is never below it.
    clip : float
        No single score counts for more.
    """

    def __init__(
        self, metric: str, detector: Detector, *, label: str = "", floor: float = 0.0, clip: float
    ) -> None:
        self.metric, self.detector, self.label = metric, detector, label
        self._floor, self.clip = floor, clip
        self.limits: tuple[float, float] | None = None
        self.interval_samples: float | None = None
        self.alarmed = False
        self.alarms = 0

    @property
    def name(self) -> str:
        """What distinguishes the chart from the others of its model."""
        return f"{self.metric}/{self.detector.name}/{self.label}"

    def solved(self, null: Null, guarded: Null, samples: float) -> tuple[float, float]:
        """Return warning and alarm limit for one false alarm in ``samples`` scores; slow the first time.

        On the guarded null the share ``HELD`` of them is enough; the higher limit holds. One score alone never raises
        an alarm, however far out it lies: the limit is at least what a chart at rest reaches by it.
        """
        curves = [
            (run_length_curve(self.detector, stream, part * samples), part * samples)
            for stream, part in ((null, 1.0), (guarded, HELD))
        ]
        rest, clip = np.array([self.detector.start]), np.array([self.clip])
        least = max(float(self.detector.step(rest, clip)[0]), self._floor)
        warning, alarm = (
            max(curve.limit(max(share * wanted, 2.0)) for curve, wanted in curves)
            for share in (WARNING_SHARE, 1.0)
        )
        return max(warning, self._floor), max(alarm, least)

    def update(self, score: float) -> None:
        """Take the next score; an alarm holds until the chart is quiet, not merely below its limit.

        A chart stands at most at twice its limit: a sum that grew through a long drift would else take as long to
        come down again.
        """
        statistic = self.detector.update(min(score, self.clip))
        if self.limits is None:
            return
        warning, alarm = self.limits
        self.detector.statistic = min(statistic, 2.0 * alarm)
        if not self.alarmed and statistic > alarm:
            self.alarmed = True
            self.alarms += 1
        elif self.alarmed and statistic <= warning:
            self.alarmed = False

    @property
    def state(self) -> str:
        """One of ``STATES``."""
        if self.alarmed:
            return "alarm"
        if self.limits is None:
            return "collecting"
        return "warning" if self.detector.statistic > self.limits[0] else "normal"

    def report(self) -> SeriesReport:
        """Return where the chart stands."""
        warning, alarm = self.limits or (None, None)
        return SeriesReport(
            self.metric,
            self.detector.name,
            self.label,
            self.detector.statistic,
            warning,
            alarm,
            self.interval_samples,
            self.state,
            self.alarms,
        )
