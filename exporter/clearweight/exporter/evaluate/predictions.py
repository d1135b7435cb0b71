"""How the predictions of two classifiers differ on the same images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.exporter.evaluate.similarity import PairedDifference, paired_difference


def error_percent(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Percentage of images whose top class is not the label."""
    return 100.0 * float(np.mean(np.argmax(logits, axis=1) != labels))


def agreement_percent(reference: NDArray[Any], own: NDArray[Any]) -> float:
    """Percentage of images on which both models have the same top class."""
    return 100.0 * float(np.mean(np.argmax(reference, axis=1) == np.argmax(own, axis=1)))


def negative_flips_percent(reference: NDArray[Any], own: NDArray[Any], labels: NDArray[Any]) -> float:
    """Percentage of images that the reference has right and the other model wrong.

    References
    ----------
    Yan et al., Positive-Congruent Training: Towards Regression-Free Model Updates, CVPR 2021, section 3.
    """
    right = np.argmax(reference, axis=1) == labels
    wrong = np.argmax(own, axis=1) != labels
    return 100.0 * float(np.mean(right & wrong))


@dataclass(frozen=True)
class PredictionComparison:
    """The rows about predictions; the interval of the difference is in points, paired over images."""

    reference_error_percent: float
    error_percent: float
    error_delta_pt: float
    error_delta_interval_pt: tuple[float, float]
    agreement_percent: float
    negative_flips_percent: float


def compare_predictions(
    reference: NDArray[Any], own: NDArray[Any], labels: NDArray[Any]
) -> PredictionComparison:
    """Compare two models' logits (N, C) on labelled images."""
    delta: PairedDifference = paired_difference(
        100.0 * (np.argmax(own, axis=1) != labels), 100.0 * (np.argmax(reference, axis=1) != labels)
    )
    return PredictionComparison(
        reference_error_percent=error_percent(reference, labels),
        error_percent=error_percent(own, labels),
        error_delta_pt=delta.mean,
        error_delta_interval_pt=(delta.low, delta.high),
        agreement_percent=agreement_percent(reference, own),
        negative_flips_percent=negative_flips_percent(reference, own, labels),
    )
