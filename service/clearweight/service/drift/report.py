"""What is told about live drift: plain records."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from clearweight.service.drift.chart import SeriesReport
from clearweight.service.drift.power import Power


@dataclass(frozen=True, slots=True)
class WindowReport:
    """The newest scores of one metric; None before the first."""

    mean: float | None
    q50: float | None
    q95: float | None


@dataclass(frozen=True, slots=True)
class ClassReport:
    """The explained classes that have a null of their own, and the rest: comparisons, and the newest scores."""

    compared: int
    window: WindowReport


@dataclass(frozen=True, slots=True)
class DriftReport:
    """All that is known about live drift.

    ``series_on_device`` is the weight of all that share the false-alarm interval; ``calibration_samples`` are the
    independent samples behind the null; ``autocorrelation`` is the live one that replaced the shipped one, None where
    it did not. ``power`` says how soon the limits in force find a rise; None before they are solved.
    """

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
    series_on_device: float = 0.0
    calibration_samples: float = 0.0
    autocorrelation: float | None = None
    last_sample_timestamp_seconds: float | None = None
    power: Power | None = None
    series: Sequence[SeriesReport] = ()
    window: dict[str, WindowReport] = field(default_factory=dict)
    classes: dict[str, ClassReport] = field(default_factory=dict)
