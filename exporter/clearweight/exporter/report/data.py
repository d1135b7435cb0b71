"""What the page is made of: the manifest and the arrays behind its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.manifest import Manifest
from clearweight.exporter.errors import DataError
from clearweight.exporter.evaluate.compare import Comparison
from clearweight.exporter.evaluate.self_check import Checked
from clearweight.exporter.explain import Unit
from clearweight.exporter.explain.stimulators import Stimulator
from clearweight.exporter.outcome import Outcome


@dataclass(frozen=True, eq=False)
class ReportData:
    """All that ``render_report`` needs; nothing is measured while the page is made.

    Attributes
    ----------
    manifest : of the compressed artifact; its file list and hash may be empty still
    inputs : float, shape (n, C, H, W), (n, C, L) or (n, D), of which the first ten are shown
    labels : int, shape (n,), the classes written over the inputs
    maps_reference, maps_compressed : float, shape (n, C, *space) or (n, D), the default explainer's maps as
        its graph returns them; channels are summed, and they may be coarser than the inputs
    null_scores : float, shape (m,), the alarm score on calibration inputs, NaN where undefined; None if
        drift is not watched
    device_bytes : everything a device needs, None if it is not known yet
    comparison : similarity to the reference, explainer by explainer; None if it was not measured
    matched : names of the explainers that the objective matched, so that the page can say so
    tried : the trials of a search inside a budget, measured on the validation split
    units : what excites each unit that the recipe asks about, in the compressed model
    reference_checks, own_checks : explainer -> how it fares against its own model; empty if it was not measured
    """

    manifest: Manifest
    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    maps_reference: NDArray[Any]
    maps_compressed: NDArray[Any]
    null_scores: NDArray[np.float64] | None = None
    device_bytes: int | None = None
    comparison: Comparison | None = None
    matched: frozenset[str] = frozenset()
    reference_checks: Mapping[str, Checked] = field(default_factory=dict)
    own_checks: Mapping[str, Checked] = field(default_factory=dict)
    tried: Sequence[Outcome] = ()
    units: Mapping[Unit, Sequence[Stimulator]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        counts = {len(self.inputs), len(self.labels), len(self.maps_reference), len(self.maps_compressed)}
        if len(counts) != 1 or self.maps_reference.shape != self.maps_compressed.shape:
            raise DataError(
                f"Inputs {self.inputs.shape}, labels {self.labels.shape}, reference maps "
                f"{self.maps_reference.shape} and compressed maps {self.maps_compressed.shape}: expected one "
                "row of each per input, and maps of one shape."
            )
