"""The page's section on how each explainer fares against its own model, and how its maps fall with the weights."""

from collections.abc import Mapping
from dataclasses import dataclass

from clearweight.exporter.evaluate.randomization import Randomization
from clearweight.exporter.evaluate.self_check import IMAGES, RANDOM_MAP, Checked
from clearweight.exporter.report.data import ReportData

_NAMES = {
    "input_x_gradient": "Input × gradient",
    "gradient": "Gradient",
    "integrated_gradients": "Integrated gradients",
    "occlusion": "Occlusion",
    RANDOM_MAP: "Random map",
}


@dataclass(frozen=True)
class CheckedRow:
    """One explainer, each measure for the reference and the compressed model; ``chance`` marks the random map."""

    name: str
    chance: bool
    deletion: tuple[float | None, float | None]
    insertion: tuple[float | None, float | None]
    infidelity: tuple[float | None, float | None]
    max_sensitivity: tuple[float | None, float | None]


@dataclass(frozen=True)
class Curve:
    """One explainer of one model while its weights become random: points in a 0..1 square, and the last value."""

    name: str
    reference: bool
    points: tuple[tuple[float, float], ...]
    last: float | None


@dataclass(frozen=True)
class Randomized:
    """The curves of both models, the layers along the way, and where zero lies; up is 1."""

    curves: tuple[Curve, ...]
    stages: tuple[tuple[str, float], ...]
    zero: float


def checked_rows(data: ReportData) -> list[CheckedRow]:
    """Put both models side by side, explainer by explainer; none if nothing was measured."""
    rows = []
    for key in data.own_checks:
        pair = data.reference_checks[key], data.own_checks[key]
        rows.append(
            CheckedRow(
                name=_NAMES.get(key, key),
                chance=key == RANDOM_MAP,
                deletion=(pair[0].deletion_auc, pair[1].deletion_auc),
                insertion=(pair[0].insertion_auc, pair[1].insertion_auc),
                infidelity=(pair[0].infidelity, pair[1].infidelity),
                max_sensitivity=(pair[0].max_sensitivity, pair[1].max_sensitivity),
            )
        )
    return rows


def checked_images(data: ReportData) -> int:
    """Return on how many inputs that was measured, at most."""
    return min(IMAGES, data.comparison.images) if data.comparison else IMAGES


def randomized(data: ReportData) -> Randomized | None:
    """Lay the rank correlations out from the trained model, left, to all weights random, right; None without any."""
    measured = [
        (key, reference, found)
        for reference, checks in ((True, data.reference_checks), (False, data.own_checks))
        for key, found in _randomizations(checks).items()
    ]
    if not measured:
        return None
    values = [value for _, _, found in measured for value in found.spearman if value is not None]
    low = min(0.0, *values)
    span = 1.0 - low
    longest = max((found for _, _, found in measured), key=lambda found: len(found.layers)).layers
    return Randomized(
        curves=tuple(
            Curve(
                name=_NAMES.get(key, key),
                reference=reference,
                points=tuple(
                    (k / max(1, len(found.spearman) - 1), (value - low) / span)
                    for k, value in enumerate(found.spearman)
                    if value is not None
                ),
                last=found.remaining,
            )
            for key, reference, found in measured
        ),
        stages=tuple((name or "trained", k / max(1, len(longest) - 1)) for k, name in enumerate(longest)),
        zero=-low / span,
    )


def _randomizations(checks: Mapping[str, Checked]) -> dict[str, Randomization]:
    return {key: found.randomization for key, found in checks.items() if found.randomization is not None}
