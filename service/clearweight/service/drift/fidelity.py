"""Question one: whether the compressed model's explanation is near enough to the reference's.

A level test. The record in the manifest is judged again from its own numbers, and the stored maps of the canaries
must not contradict it, so that neither an over-pruned model that calibrated itself nor a record that flatters
gets through.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import SCORES, Canary, Fidelity

CONTRADICTION = 3.0
"""Standard errors of the canaries' mean below the budget that count as a contradiction; few canaries, wide band."""


@dataclass(frozen=True, slots=True)
class FidelityReport:
    """Verdict and the numbers behind it; ``state`` is ``passed``, ``failed`` or ``not_measured``."""

    state: str
    reason: str
    record: Fidelity | None
    canary_cosine: float | None
    canary_bound: float | None


def check_fidelity(record: Fidelity | None, canaries: Canary) -> FidelityReport:
    """Judge a manifest's fidelity record and the canaries' stored maps against the recipe's budget.

    Level test: mean cosine at least ``min_attribution_similarity`` and accuracy drop at most
    ``max_accuracy_drop``. The canaries contradict the record when their mean cosine plus ``CONTRADICTION``
    standard errors is still below the budget.
    """
    if record is None:
        return FidelityReport("not_measured", "The artifact carries no fidelity record.", None, None, None)
    problems = []
    summary = record.similarity.get("cosine")
    cosine = summary.mean if summary else math.nan
    if not cosine >= record.min_attribution_similarity:
        problems.append(
            f"Attribution similarity {cosine:.4f} is below the budget {record.min_attribution_similarity:.4f}."
        )
    if record.accuracy_drop is not None and not record.accuracy_drop <= record.max_accuracy_drop:
        problems.append(
            f"Accuracy dropped by {record.accuracy_drop:.4f}, above the budget {record.max_accuracy_drop:.4f}."
        )
    if record.occlusion is not None and not record.occlusion.mean >= record.min_attribution_similarity:
        problems.append(
            f"Occlusion similarity {record.occlusion.mean:.4f} is below the budget "
            f"{record.min_attribution_similarity:.4f}."
        )
    if not record.passed and not problems:
        problems.append("The record says failed although its numbers pass.")
    budget = record.min_attribution_similarity
    mean, bound = _canary_cosine(canaries.maps_reference, canaries.maps_compressed, budget)
    if mean is not None and bound is not None and mean < bound:
        problems.append(
            f"The canaries' stored maps have cosine {mean:.4f}, the record needs at least {bound:.4f}."
        )
    if canaries.occlusions_reference is not None and canaries.occlusions_compressed is not None:
        hidden, least = _canary_cosine(canaries.occlusions_reference, canaries.occlusions_compressed, budget)
        if hidden is not None and least is not None and hidden < least:
            problems.append(
                f"The canaries' stored occlusion maps have cosine {hidden:.4f}, the record needs at least {least:.4f}."
            )
    return FidelityReport("failed" if problems else "passed", " ".join(problems), record, mean, bound)


def _canary_cosine(
    reference: NDArray[np.float16], own: NDArray[np.float16], budget: float
) -> tuple[float | None, float | None]:
    if len(reference) == 0 or reference.ndim == 1:
        return None, None
    distance = SCORES["cosine"](reference, own)
    similarity = 1.0 - distance[np.isfinite(distance)]
    if similarity.size == 0:
        return None, None
    error = float(similarity.std(ddof=1)) / math.sqrt(similarity.size) if similarity.size > 1 else 1.0
    return float(similarity.mean()), budget - CONTRADICTION * error
