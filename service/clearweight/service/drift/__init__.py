"""Fidelity, integrity, drift: three questions about a compressed model's explanations, three tests.

Statistics and verdicts on plain arrays; the models they speak about are handed in by the core.
"""

from clearweight.service.drift.bernoulli_cusum import BernoulliCusum
from clearweight.service.drift.cusum import Cusum
from clearweight.service.drift.ewma import Ewma
from clearweight.service.drift.fidelity import FidelityReport, check_fidelity
from clearweight.service.drift.integrity import IntegrityReport, check_integrity
from clearweight.service.drift.monitor import Monitor
from clearweight.service.drift.report import DriftReport
from clearweight.service.drift.shadow import Comparison, ShadowWorker, compare

DETECTORS: dict[str, type[Ewma | Cusum | BernoulliCusum]] = {
    Ewma.name: Ewma,
    Cusum.name: Cusum,
    BernoulliCusum.name: BernoulliCusum,
}
"""Every chart, by its name in the literature; ``charts.py`` says which series it watches."""

__all__ = [
    "DETECTORS",
    "BernoulliCusum",
    "Comparison",
    "Cusum",
    "DriftReport",
    "Ewma",
    "FidelityReport",
    "IntegrityReport",
    "Monitor",
    "ShadowWorker",
    "check_fidelity",
    "check_integrity",
    "compare",
]
