"""What the core reports while it works; the default listens to nothing, ``metrics.py`` counts it all."""

from typing import Any

from numpy.typing import NDArray

from clearweight.service.drift import Comparison, IntegrityReport


class Observer:
    """Every method is called off the caller's way of success or failure and must not raise."""

    def request(self, model: str, version: str, verb: str, protocol: str, code: str, seconds: float) -> None:
        """One request was answered, with this code, after this time."""

    def rejected(self, reason: str) -> None:
        """A request was turned away before it ran."""

    def queued(self, verb: str, seconds: float) -> None:
        """Work waited this long for a worker."""

    def ran(self, stage: str, rows: int, seconds: float) -> None:
        """ONNX Runtime ran a batch."""

    def explained(self, model: str, method: str, rows: int, completeness_error: NDArray[Any] | None) -> None:
        """Rows were explained."""

    def compared(self, model: str, source: str, comparison: Comparison) -> None:
        """Rows were compared with the reference."""

    def skipped(self, model: str, reason: str, rows: int) -> None:
        """Rows were not compared: ``sampled_out``, ``budget``, ``no_reference`` or ``unreachable``."""

    def checked(self, model: str, version: str, variant: str, report: IntegrityReport) -> None:
        """An integrity check ended."""
