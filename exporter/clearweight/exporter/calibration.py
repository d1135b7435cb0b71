"""What the calibration split says: fidelity to the reference, the null of the drift scores, the runtime floor.

Everything here compares maps of the two networks for the class that the reference predicts, computed by the very
graphs that ship.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from clearweight.artifact import Drift, Fidelity, IntegrityLimit, NullDistribution, Summary
from clearweight.artifact.score import SCORES
from clearweight.exporter.recipe import FidelitySection

CHUNK = 64
LAGS = 5


@dataclass(frozen=True, eq=False)
class Explained:
    """Logits and maps of one network, as its explain graph returned them.

    Attributes
    ----------
    logits : float32, (n, classes)
    maps : float32, (n, *map shape)
    """

    logits: NDArray[np.float32]
    maps: NDArray[np.float32]


def explained(
    session: ort.InferenceSession, inputs: NDArray[np.float32], target: NDArray[np.int64] | None
) -> Explained:
    """Run an explain graph over ``inputs`` in chunks.

    Parameters
    ----------
    target : (n,), the explained class of each input; None explains the arg-max of each run
    """
    if target is None:
        target = np.full(len(inputs), -1, np.int64)
    name = next(i.name for i in session.get_inputs() if i.name != "target")
    outputs = [o.name for o in session.get_outputs()][:2]
    parts = [
        session.run(outputs, {name: inputs[i : i + CHUNK], "target": target[i : i + CHUNK]})
        for i in range(0, len(inputs), CHUNK)
    ]
    return Explained(logits=np.concatenate([p[1] for p in parts]), maps=np.concatenate([p[0] for p in parts]))


def distances(own: NDArray[np.float32], aim: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Return every drift score of paired maps; (n,) each, NaN where undefined."""
    return {name: score(own, aim) for name, score in SCORES.items()}


def summary(values: NDArray[np.float64]) -> Summary:
    """Summarise defined values; of none, everything is NaN-free zero similarity."""
    if not len(values):
        return Summary(mean=0.0, q05=0.0, q50=0.0, q95=0.0)
    q05, q50, q95 = (float(q) for q in np.quantile(values, [0.05, 0.5, 0.95]))
    return Summary(mean=float(values.mean()), q05=q05, q50=q50, q95=q95)


def fidelity(
    explainer: str,
    scores: Mapping[str, NDArray[np.float64]],
    *,
    agreement: float,
    accuracy_drop: float,
    budget: FidelitySection,
    retrain_floor: float | None,
) -> Fidelity:
    """Hold the compressed model's explanations against the budget: a level test, whatever its own null is.

    Passed when the mean cosine is at least the budget's and the accuracy falls by no more than it allows. Undefined
    maps count as similarity 0 in the mean that is tested.
    """
    cosine = scores["cosine"]
    undefined = int(np.isnan(cosine).sum())
    similarity = {name: summary(1.0 - values[~np.isnan(values)]) for name, values in scores.items()}
    level = float(np.where(np.isnan(cosine), 0.0, 1.0 - cosine).mean())
    gap = (
        None
        if retrain_floor is None or retrain_floor >= 1.0
        else (level - retrain_floor) / (1.0 - retrain_floor)
    )
    return Fidelity(
        explainer=explainer,
        samples=len(cosine),
        undefined=undefined,
        similarity=similarity,
        agreement=agreement,
        accuracy_drop=accuracy_drop,
        min_attribution_similarity=budget.min_attribution_similarity,
        max_accuracy_drop=budget.max_accuracy_drop,
        retrain_floor=retrain_floor,
        gap_closed=gap,
        passed=level >= budget.min_attribution_similarity and accuracy_drop <= budget.max_accuracy_drop,
    )


def autocorrelation(values: NDArray[np.float64], lags: int) -> tuple[float, ...]:
    """Return the autocorrelation at lags 1..``lags``; zeros for a constant series."""
    centred = values - values.mean()
    power = float(centred @ centred)
    if power == 0.0 or len(values) <= lags:
        return (0.0,) * lags
    return tuple(float(centred[k:] @ centred[:-k]) / power for k in range(1, lags + 1))


def null_distribution(values: NDArray[np.float64], runtime_floor: NDArray[np.float64]) -> NullDistribution:
    """Describe the score's distribution without drift.

    Parameters
    ----------
    values : distances on calibration samples, in stream order, NaN where undefined
    runtime_floor : distances of the same network through another runtime configuration; their 99 % point is kept
    """
    defined = values[~np.isnan(values)]
    floor = runtime_floor[~np.isnan(runtime_floor)]
    if not len(defined):
        defined = np.zeros(1)
    return NullDistribution(
        mean=float(defined.mean()),
        std=float(defined.std()),
        quantiles=tuple(float(q) for q in np.quantile(defined, np.linspace(0.0, 1.0, 101))),
        autocorrelation=autocorrelation(defined, LAGS),
        runtime_floor=float(np.quantile(floor, 0.99)) if len(floor) else 0.0,
        samples=len(values),
        undefined=int(np.isnan(values).sum()),
    )


def drift_null(
    explainer: str,
    scores: Mapping[str, NDArray[np.float64]],
    floors: Mapping[str, NDArray[np.float64]],
    disagreement: NDArray[np.float64],
) -> Drift:
    """Return the null of every drift score; ``disagreement`` is 1 where the predictions differ."""
    nulls = {name: null_distribution(values, floors[name]) for name, values in scores.items()}
    nulls["disagreement"] = null_distribution(disagreement, np.zeros(len(disagreement)))
    return Drift(explainer=explainer, scores=nulls)


def integrity_limit(plain: Explained, optimised: Explained) -> IntegrityLimit:
    """Derive how far an intact device may be from the stored canaries.

    ``plain`` and ``optimised`` are the same network through the runtime without and with graph optimisation. Another
    processor's kernels add in another order, so the limits leave room of a ten-thousandth of the largest logit, or
    of twenty times what the two configurations differ by, whichever is more. Maps are stored as float16; the cosine
    and the 99.9 % quantile forgive single pixels at which a rounding flips a ReLU.
    """
    scale = float(np.abs(optimised.logits).max())
    floor = float(np.abs(optimised.logits - plain.logits).max())
    return IntegrityLimit(
        logits_atol=max(1e-4 * scale, 20.0 * floor, 1e-6), map_cosine_min=0.999, map_q999_max=0.01
    )


def session_without_optimisation(model: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    """Open a self-contained graph with the runtime's graph optimisation off: a second opinion on the same graph."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    return ort.InferenceSession(model.SerializeToString(), options, providers=providers)
