"""The page's sections as plain records: what is said, apart from how it looks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.manifest import Fidelity, Summary
from clearweight.artifact.score import channel_sum
from clearweight.exporter.evaluate.similarity import cosine
from clearweight.exporter.report import quantity
from clearweight.exporter.report.data import ReportData
from clearweight.exporter.report.tile import image_tile, map_tile, unit_scale

# Keeps the page below 400 kB whatever the images are.
MOST_SHOWN = 10
_EXPLAINERS = (
    ("input_x_gradient", "Input × gradient"),
    ("gradient", "Gradient"),
    ("integrated_gradients", "Integrated gradients"),
    ("occlusion", "Occlusion"),
    ("swa", "Feature map (SWA)"),
)


@dataclass(frozen=True)
class Figure:
    """One number at the head of the page."""

    name: str
    value: str
    note: str


def key_figures(data: ReportData) -> list[Figure]:
    """Sizes, accuracy and agreement at a glance; packed and device bytes are never mixed."""
    ledger, fidelity = data.manifest.ledger, data.manifest.fidelity
    before, after = data.manifest.reference_quality.accuracy, data.manifest.compressed_quality.accuracy
    ratio = ledger.reference_bytes / ledger.packed_bytes if ledger.packed_bytes else None
    device_ratio = ledger.reference_bytes / data.device_bytes if data.device_bytes else None
    return [
        Figure("Reference", quantity.in_bytes(ledger.reference_bytes), "4 bytes per parameter"),
        Figure(
            "Packed weights",
            quantity.in_bytes(ledger.packed_bytes),
            f"{quantity.smaller(ratio)}, every parameter inside",
        ),
        Figure(
            "On the device",
            quantity.in_bytes(data.device_bytes),
            "not known when this page was made"
            if device_ratio is None
            else f"{quantity.smaller(device_ratio)}, graphs and self-test included",
        ),
        Figure("Accuracy", quantity.percent(after), f"reference {quantity.percent(before)}"),
        Figure(
            "Same prediction",
            quantity.percent(fidelity.agreement if fidelity else None),
            "of both models on calibration inputs",
        ),
    ]


@dataclass(frozen=True)
class Likeness:
    """One explainer: how alike the two models' maps are."""

    name: str
    cosine: str
    share: float
    matched: bool
    extra: str


def likenesses(data: ReportData) -> list[Likeness]:
    """Mean cosine of each explainer that was measured."""
    result = data.comparison
    if result is None:
        return []
    rows = []
    for key, name in _EXPLAINERS:
        value: float | None = getattr(result, f"cosine_{key}")
        if value is None:
            continue
        extra = ""
        if key == "input_x_gradient":
            extra = (
                f"rank correlation {quantity.decimal(result.spearman_input_x_gradient)}, "
                f"top tenth in common {quantity.decimal(result.top10_iou_input_x_gradient)}"
            )
        rows.append(
            Likeness(
                name=name,
                cosine=quantity.decimal(value),
                share=float(np.clip(value, 0, 1)),
                matched=key in data.matched,
                extra=extra,
            )
        )
    return rows


@dataclass(frozen=True)
class Calibrated:
    """One similarity on the calibration inputs: its spread, and the floor where one was measured."""

    name: str
    summary: Summary
    share: float
    floor: float | None


def calibrated(fidelity: Fidelity | None) -> list[Calibrated]:
    """Similarities behind the verdict; the first, at full resolution, is the one that decides."""
    if fidelity is None:
        return []
    names = sorted(fidelity.similarity, key=lambda name: (name != "cosine", name))
    return [
        Calibrated(
            name=name.replace("_", " ").replace("top10 iou", "top tenth in common"),
            summary=fidelity.similarity[name],
            share=float(np.clip(fidelity.similarity[name].mean, 0, 1)),
            floor=fidelity.retrain_floor if name == "cosine" else None,
        )
        for name in names
    ]


@dataclass(frozen=True)
class Faithfulness:
    """One measure of a model's maps against the model itself."""

    name: str
    reference: float | None
    compressed: float | None
    note: str


def faithfulness(data: ReportData) -> list[Faithfulness]:
    """Rows from the comparison where there is one, else from the manifest; none if nothing was measured."""
    result, before, after = data.comparison, data.manifest.reference_quality, data.manifest.compressed_quality
    deletion = (before.deletion_auc, after.deletion_auc)
    rank = (before.spearman_to_own_occlusion, after.spearman_to_own_occlusion)
    if result is not None:
        deletion = (result.reference_deletion_auc, result.deletion_auc)
        rank = (result.reference_spearman_to_own_occlusion, result.spearman_to_own_occlusion)
    rows = [
        Faithfulness("Deletion area", *deletion, "lower is better: what the map ranks first matters most"),
        Faithfulness("Rank correlation with own occlusion", *rank, "higher is better"),
    ]
    return [row for row in rows if row.reference is not None or row.compressed is not None]


@dataclass(frozen=True)
class Verdict:
    """The fidelity decision in words."""

    passed: bool
    text: str


def verdict(fidelity: Fidelity | None) -> Verdict | None:
    """Say what was demanded and what was found; None if fidelity was not measured."""
    if fidelity is None:
        return None
    found = fidelity.similarity["cosine"].mean if "cosine" in fidelity.similarity else None
    text = (
        f"Mean cosine {quantity.decimal(found)}, at least {quantity.decimal(fidelity.min_attribution_similarity)} "
        f"was demanded; accuracy drop {quantity.percent(fidelity.accuracy_drop)}, at most "
        f"{quantity.percent(fidelity.max_accuracy_drop)} was allowed."
    )
    if fidelity.occlusion is not None:
        text += (
            f" Occlusion, which needs no gradient: mean cosine {quantity.decimal(fidelity.occlusion.mean)}, "
            "held against the same demand."
        )
    return Verdict(fidelity.passed, text)


@dataclass(frozen=True)
class Example:
    """One input beside both models' maps."""

    label: str
    cosine: str
    image: str
    reference: str
    compressed: str
    difference: str


def examples(data: ReportData) -> list[Example]:
    """Draw the first ten inputs, both maps at unit scale, and half their difference, to fit the same colours."""
    if len(data.inputs) == 0:
        return []
    told, own = (_summed(maps[:MOST_SHOWN]) for maps in (data.maps_reference, data.maps_compressed))
    alike = cosine(told, own)
    known = data.manifest.labels
    rows = []
    for index, label in enumerate(data.labels[:MOST_SHOWN]):
        aim, found = unit_scale(told[index]), unit_scale(own[index])
        rows.append(
            Example(
                label=known[label] if 0 <= label < len(known) else f"class {label}",
                cosine=quantity.decimal(None if np.isnan(alike[index]) else float(alike[index])),
                image=image_tile(data.inputs[index]),
                reference=map_tile(aim),
                compressed=map_tile(found),
                difference=map_tile((found - aim) / 2),
            )
        )
    return rows


def _summed(maps: NDArray[Any]) -> NDArray[np.float64]:
    """Sum over channels: (n, C, *space) to (n, *space); flat maps stay."""
    return channel_sum(maps).reshape(len(maps), *(maps.shape[2:] if maps.ndim > 2 else maps.shape[1:]))
