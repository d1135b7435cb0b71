"""The largest multiplier inside a budget: how far the answers may move, how near the maps must stay."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from clearweight.artifact import cosine_distance
from clearweight.exporter.calibration import Explained, chunk_of, explained
from clearweight.exporter.explain import build
from clearweight.exporter.graph import session
from clearweight.exporter.post_training.compress import Statistics, compress

# Multipliers are tried on this grid of quarter decades, from one at which nothing is lost to one at which all is.
GRID = tuple(10.0 ** (place / 4) for place in range(-44, -11))


@dataclass(frozen=True)
class Budget:
    """What compression may cost, on the calibration inputs.

    Attributes
    ----------
    max_logit_kl : mean KL divergence of the answers, nats
    min_attribution_similarity : mean cosine of the maps; undefined ones count as 0
    """

    max_logit_kl: float = 0.01
    min_attribution_similarity: float = 0.9


@dataclass(frozen=True)
class Found:
    """One multiplier and what it came to."""

    multiplier: float
    logit_kl: float
    similarity: float

    def within(self, budget: Budget) -> bool:
        """Tell whether the budget is kept."""
        return self.logit_kl <= budget.max_logit_kl and self.similarity >= budget.min_attribution_similarity


def divergence(aim: NDArray[np.float32], own: NDArray[np.float32]) -> float:
    """Return the mean KL divergence of two networks' answers in nats, from their logits (n, classes)."""
    a, b = (_log_softmax(logits.astype(np.float64)) for logits in (aim, own))
    return float((np.exp(a) * (a - b)).sum(1).mean())


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result


def search(
    statistics: Statistics,
    model: onnx.ModelProto,
    inputs: NDArray[np.float32],
    budget: Budget,
    *,
    method: str = "input_x_gradient",
    threads: int = 1,
    on_try: Callable[[Found], None] = lambda _found: None,
) -> Found:
    """Find the largest multiplier on the grid that keeps the budget; where none does, the smallest.

    Both measures worsen with the multiplier but for noise, so it is searched by halving.

    Parameters
    ----------
    inputs : held against the budget; better not those that the statistics saw
    on_try : told of every multiplier that was tried
    """

    def look(graph: onnx.ModelProto, target: NDArray[np.int64] | None) -> Explained:
        running: ort.InferenceSession = session(build(graph, method).model, threads=threads)
        return explained(running, inputs, target, chunk=chunk_of(model))

    aim = look(model, None)
    target = aim.logits.argmax(1).astype(np.int64)

    def tried(place: int) -> Found:
        with TemporaryDirectory() as folder:
            own = look(compress(statistics, GRID[place], Path(folder)).model, target)
        distance = cosine_distance(own.maps, aim.maps)
        similarity = float(np.where(np.isnan(distance), 0.0, 1.0 - distance).mean())
        found = Found(GRID[place], divergence(aim.logits, own.logits), similarity)
        on_try(found)
        return found

    low, high = 0, len(GRID) - 1
    best = None
    while low <= high:
        middle = (low + high) // 2
        found = tried(middle)
        if found.within(budget):
            best, low = found, middle + 1
        else:
            high = middle - 1
    return best if best is not None else tried(0)
