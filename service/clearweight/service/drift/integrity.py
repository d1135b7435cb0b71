"""Question two: whether this device reproduces the compressed model's own stored answers.

Deterministic, hence a level test within the runtime floor: catches damaged files, wrong kernels, another runtime
or processor.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import IntegrityLimit


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """Verdict and worst values over all canaries; ``state`` is ``passed`` or ``failed``."""

    state: str
    reason: str
    canaries: int
    logits_error: float
    map_cosine: float | None
    map_q999: float | None
    limit: IntegrityLimit
    occlusion_cosine: float | None = None
    occlusion_q999: float | None = None


def check_integrity(
    limit: IntegrityLimit,
    logits: tuple[NDArray[Any], NDArray[Any]],
    maps: tuple[NDArray[Any], NDArray[Any]] | None,
    occlusions: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> IntegrityReport:
    """Compare what this device computed with what the artifact stores; every canary must be within the limits.

    Parameters
    ----------
    logits : (expected, found), float, shape (n, classes)
    maps : (expected, found), float, shape (n, ...), or None for an artifact without explainers
    occlusions : the same for occlusion maps, which a quantized model carries: its gradient maps are a surrogate's
    """
    if len(logits[0]) == 0:
        return IntegrityReport("failed", "The artifact carries no canaries.", 0, 0.0, None, None, limit)
    expected, found = (side.astype(np.float64) for side in logits)
    problems = []
    logits_error = _worst(np.abs(expected - found))
    if not logits_error <= limit.logits_atol:
        problems.append(f"Logits differ by {logits_error:.3g}, allowed is {limit.logits_atol:.3g}.")
    agreements: list[tuple[float | None, float | None]] = []
    for what, pair, cosine_min, q999_max in (
        ("A map", maps, limit.map_cosine_min, limit.map_q999_max),
        ("An occlusion map", occlusions, limit.occlusion_cosine_min, limit.occlusion_q999_max),
    ):
        if pair is None or cosine_min is None or q999_max is None:
            agreements.append((None, None))
            if what == "An occlusion map" and cosine_min is not None:
                problems.append("The canaries hold no occlusion maps, and the manifest has a limit for them.")
            continue
        cosine, q999 = map_agreement(*pair)
        agreements.append((cosine, q999))
        if not cosine >= cosine_min:
            problems.append(f"{what} has cosine {cosine:.6f} to the stored one, expected {cosine_min:.6f}.")
        if not q999 <= q999_max:
            problems.append(f"{what} differs by {q999:.3g} of its maximum, allowed is {q999_max:.3g}.")
    state = "failed" if problems else "passed"
    return IntegrityReport(
        state, " ".join(problems), len(expected), logits_error, *agreements[0], limit, *agreements[1]
    )


def map_agreement(expected: NDArray[Any], found: NDArray[Any]) -> tuple[float, float]:
    """Return the lowest cosine and the highest 99.9 % error over the map's maximum, over all rows.

    Two all-zero maps agree (1, 0); one all-zero map against another does not (0, infinity).
    """
    cosines, errors = [], []
    for stored, computed in zip(expected.astype(np.float64), found.astype(np.float64), strict=True):
        norms = float(np.linalg.norm(stored)), float(np.linalg.norm(computed))
        scale = float(np.abs(stored).max())
        if norms == (0.0, 0.0):
            cosines.append(1.0)
            errors.append(0.0)
        elif 0.0 in norms or not math.isfinite(sum(norms)):
            cosines.append(0.0)
            errors.append(math.inf)
        else:
            cosines.append(float((stored * computed).sum()) / (norms[0] * norms[1]))
            errors.append(float(np.quantile(np.abs(stored - computed), 0.999)) / scale)
    return min(cosines), max(errors)


def _worst(error: NDArray[Any]) -> float:
    worst = float(error.max())
    return worst if math.isfinite(worst) else math.inf
