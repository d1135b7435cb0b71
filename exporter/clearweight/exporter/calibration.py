"""What the calibration split says: fidelity to the reference, the null of the drift scores, the runtime floor.

Everything here compares maps of the two networks for the class that the reference predicts, computed by the very
graphs that ship.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from clearweight.artifact import (
    OTHER,
    QUANTILE_LEVELS,
    ClassNull,
    Drift,
    Fidelity,
    IntegrityLimit,
    NullDistribution,
    Summary,
    explain_inputs,
)
from clearweight.artifact.manifest import LAGS
from clearweight.artifact.score import SCORES
from clearweight.exporter.explain import ExplainGraph
from clearweight.exporter.graph.shape import row_elements
from clearweight.exporter.outside import has_outside, let_read
from clearweight.exporter.sections import FidelitySection

CHUNK = 64
# Bytes of the values of one run, those of the way back included, that a chunk is cut to.
RUN_BYTES = 512 << 20
# The drift score that is broken down by class, for the most frequent classes that have samples enough to say something.
BROKEN_DOWN = "pooled_cosine"
MOST_CLASSES = 8
LEAST_OF_CLASS = 30
# Rows of the network at once where an explainer makes several of each input.
MOST_ROWS = 256
# What an intact device must reach whatever roundings do.
MIN_COSINE, MAX_Q999 = 0.9, 0.5
# Times every input: moves about one value in two thousand across the edge between two integers.
NUDGE = np.float32(1 + 1e-5)


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
    session: ort.InferenceSession,
    inputs: NDArray[np.float32],
    target: NDArray[np.int64] | None,
    graph: ExplainGraph | None = None,
    *,
    chunk: int = CHUNK,
) -> Explained:
    """Run an explain graph over ``inputs`` in chunks.

    Parameters
    ----------
    target : (n,), the explained class of each input; None explains the arg-max of each run
    graph : what runs, where it takes further inputs or several rows for each: the inputs are those that a device makes
        when nothing is asked for, the usual steps, seed 0 and baseline zero
    chunk : rows at once, at most
    """
    if target is None:
        target = np.full(len(inputs), -1, np.int64)
    name = next(i.name for i in session.get_inputs() if i.name != "target")
    outputs = [o.name for o in session.get_outputs()][:2]
    size = chunk if graph is None else min(chunk, max(1, MOST_ROWS // graph.steps))
    parts = []
    for i in range(0, len(inputs), size):
        rows = inputs[i : i + size]
        further = {} if graph is None else _further(graph, rows.shape)
        parts.append(session.run(outputs, {name: rows, "target": target[i : i + size], **further}))
    return Explained(logits=np.concatenate([p[1] for p in parts]), maps=np.concatenate([p[0] for p in parts]))


def chunk_of(model: onnx.ModelProto) -> int:
    """Return how many rows of a classifier, explained, take no more than ``RUN_BYTES``; at most ``CHUNK``."""
    return max(1, min(CHUNK, RUN_BYTES // max(1, 2 * 4 * row_elements(model))))


def _further(graph: ExplainGraph, shape: tuple[int, ...]) -> dict[str, NDArray[np.float32]]:
    return explain_inputs(graph.inputs, shape, steps=graph.steps, seed=0, settings=graph.settings)


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
    occlusion: NDArray[np.float64] | None = None,
) -> Fidelity:
    """Hold the compressed model's explanations against the budget: a level test, whatever its own null is.

    Passed when the mean cosine is at least the budget's and the accuracy falls by no more than it allows. Undefined
    maps count as similarity 0 in the mean that is tested.

    Parameters
    ----------
    occlusion : distances of the two models' occlusion maps, held against the same budget: of a quantized model, whose
        gradient maps are a surrogate's
    """
    cosine = scores["cosine"]
    undefined = int(np.isnan(cosine).sum())
    similarity = {name: summary(1.0 - values[~np.isnan(values)]) for name, values in scores.items()}
    level = _level(cosine)
    lowest = level if occlusion is None else min(level, _level(occlusion))
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
        passed=lowest >= budget.min_attribution_similarity and accuracy_drop <= budget.max_accuracy_drop,
        occlusion=None if occlusion is None else summary(1.0 - occlusion[~np.isnan(occlusion)]),
    )


def _level(distance: NDArray[np.float64]) -> float:
    """Return the mean similarity that is tested: undefined maps count as 0."""
    return float(np.where(np.isnan(distance), 0.0, 1.0 - distance).mean())


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
        quantiles=tuple(_short(q) for q in np.quantile(defined, QUANTILE_LEVELS)),
        autocorrelation=autocorrelation(defined, LAGS),
        runtime_floor=float(np.quantile(floor, 0.99)) if len(floor) else 0.0,
        samples=len(values),
        undefined=int(np.isnan(values).sum()),
    )


def _short(value: float) -> float:
    """Keep five digits of a quantile: more say nothing, and the manifest travels to every device."""
    return float(f"{value:.5g}")


def class_nulls(values: NDArray[np.float64], classes: NDArray[np.int64]) -> tuple[ClassNull, ...]:
    """Break the alarm score down by explained class, the most frequent ones first, the rest together as ``OTHER``.

    Parameters
    ----------
    values : (n,), distances, NaN where undefined
    classes : (n,), the reference's predictions

    Returns
    -------
    tuple of ClassNull
        At most ``MOST_CLASSES`` and ``OTHER``, each of ``LEAST_OF_CLASS`` defined samples or more.
    """
    defined = ~np.isnan(values)
    found, counts = np.unique(classes[defined], return_counts=True)
    frequent = sorted(
        (index for index, count in zip(found, counts, strict=True) if count >= LEAST_OF_CLASS),
        key=lambda index: -counts[found == index][0],
    )[:MOST_CLASSES]
    if len(found) < 2:
        return ()  # nothing to break down
    groups = [(int(index), defined & (classes == index)) for index in frequent]
    groups.append((OTHER, defined & ~np.isin(classes, frequent)))
    return tuple(
        ClassNull(index, int(rows.sum()), _short(values[rows].mean()), _short(values[rows].std()))
        for index, rows in groups
        if rows.sum() >= LEAST_OF_CLASS
    )


def drift_null(
    explainer: str,
    scores: Mapping[str, NDArray[np.float64]],
    floors: Mapping[str, NDArray[np.float64]],
    disagreement: NDArray[np.float64],
    classes: NDArray[np.int64],
) -> Drift:
    """Return the null of every drift score, and of the alarm score by class.

    Parameters
    ----------
    disagreement : (n,), 1 where the predictions differ
    classes : (n,), the explained class: the reference's prediction
    """
    nulls = {name: null_distribution(values, floors[name]) for name, values in scores.items()}
    nulls["disagreement"] = null_distribution(disagreement, np.zeros(len(disagreement)))
    return Drift(explainer=explainer, scores=nulls, classes=class_nulls(scores[BROKEN_DOWN], classes))


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


def rounded_integrity_limit(
    own: Explained, others: Sequence[Explained], occlusions: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> IntegrityLimit:
    """Derive how far an intact device may be from the stored canaries of a quantized model.

    Where a value lies on the edge between two integers, another order of summation gives the other one, and all that
    comes behind moves by a whole step. So the limits are twice the largest movement seen, never below those of a
    float model.

    Parameters
    ----------
    own : logits of the predict graph and maps of the explain graph
    others : the same through other kernels (the explain graph computes in float what the predict graph may compute in
        integers), and with inputs nudged just enough to provoke such steps
    occlusions : occlusion maps, plain and nudged
    """
    scale = float(np.abs(own.logits).max())
    moved = max(float(np.abs(own.logits - other.logits).max()) for other in others)
    maps = _map_limit([map_movement(own.maps, other.maps) for other in others])
    hidden = _map_limit([map_movement(*occlusions)])
    return IntegrityLimit(max(1e-4 * scale, 2.0 * moved, 1e-6), *maps, *hidden)


def _map_limit(movements: Sequence[tuple[float, float]]) -> tuple[float, float]:
    cosine, q999 = min(c for c, _ in movements), max(q for _, q in movements)
    least = max(MIN_COSINE, min(0.999, 1.0 - 2.0 * (1.0 - cosine)))
    return least, min(MAX_Q999, max(0.01, 2.0 * q999))


def map_movement(maps: NDArray[np.float32], moved: NDArray[np.float32]) -> tuple[float, float]:
    """Return the lowest cosine and the highest 99.9 % quantile of the error over the maximum; empty maps left out."""
    cosine, error = [1.0], [0.0]
    for a, b in zip(_rows(maps), _rows(moved), strict=True):
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
        if size > 0:
            cosine.append(float(a @ b) / size)
            error.append(float(np.quantile(np.abs(a - b), 0.999) / np.abs(a).max()))
    return min(cosine), max(error)


def _rows(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    return maps.reshape(len(maps), -1).astype(np.float64)


def session_without_optimisation(model: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    """Open a graph with the runtime's graph optimisation off: a second opinion on the same graph."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    if has_outside(model):
        let_read(options)
    return ort.InferenceSession(model.SerializeToString(), options, providers=providers)
