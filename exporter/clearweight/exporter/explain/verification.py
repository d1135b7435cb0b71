"""Proving an explain graph right before it ships.

Independent looks at the same maps: the graph in float64 on onnx's reference implementation (is the arithmetic right?),
finite differences of the model itself in float64 where the method is a derivative (is it the right one?), plain loops
over the model where the method takes no derivative, an oracle such as torch autograd where there is one, what the maps
must add up to, and the frozen-map test (does the map follow its input and its target? A graph exported with a traced
gradient can return the same map for every input).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from clearweight.artifact import Verification, explain_inputs
from clearweight.exporter.explain.agreement import Agreement, Map, agreement, frozen_map, is_affine
from clearweight.exporter.explain.difference import checking_inputs, difference_error
from clearweight.exporter.explain.errors import VerificationError
from clearweight.exporter.explain.explain_graph import ExplainGraph
from clearweight.exporter.explain.float64 import Float64Twin, rows_at_once
from clearweight.exporter.explain.row_by_row import ROW_BY_ROW, row_by_row
from clearweight.exporter.graph import session

Inputs = Mapping[str, NDArray[Any]]
Oracle = Callable[[NDArray[np.float32], NDArray[np.int64], Inputs], Map]
"""``(x, target, further inputs of the graph) -> maps``, target INT64 (n,) in 0..C-1."""

# A ReLU whose input is zero up to rounding may open in one precision and stay shut in the other, which moves isolated
# elements: so maps are compared by direction and a high quantile, never by the largest error.
COSINE_MIN = 0.999
Q999_ERROR_MAX = 0.1
DIFFERENCE_ERROR_MAX = 1e-3
# Of the largest logit. Integrated gradients miss by what their quadrature does not see of the network's kinks at their
# usual number of steps, which is no fault of the graph: that its sum is right is asked of it exactly, in another way.
COMPLETENESS_ERROR_MAX: Mapping[str, float] = MappingProxyType({"integrated_gradients": 0.1})
EXACT_ERROR_MAX = 1e-3
# Maps that may be the same for every input though the network bends: without max pooling the way back forgets it.
_BLIND = frozenset({"deconvnet"})
_TIMES_INPUT = frozenset({"input_x_gradient"})


@dataclass(frozen=True)
class _Graph:
    """An explain graph on ONNX Runtime."""

    running: ort.InferenceSession
    source: str

    def run(
        self, x: NDArray[np.float32], target: NDArray[np.int64], inputs: Inputs
    ) -> dict[str, NDArray[Any]]:
        names = [output.name for output in self.running.get_outputs()]
        return dict(
            zip(names, self.running.run(None, {self.source: x, "target": target, **inputs}), strict=True)
        )


def verify(
    graph: ExplainGraph, model: onnx.ModelProto, samples: NDArray[np.float32], oracle: Oracle | None
) -> Verification:
    """Check an explain graph on ONNX Runtime against everything that knows better.

    Parameters
    ----------
    graph : from ``build``, for targets
    model : the model it was built from
    samples : (n, ...) float32, two or more different inputs; float64 evaluation takes about a second for each
    oracle : maps by other means, or None

    Returns
    -------
    Verification
        Worst values over all samples, for two targets: the first two classes of the first sample. Methods with a
        path, noise or masks are compared on a few of them, with baselines other than zero; their completeness is
        taken at their usual number and the baseline zero.

    Raises
    ------
    VerificationError
        The maps differ from what they should be, or do not follow input or target.
    ValueError
        Fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError(f"Got {len(samples)} samples, expected two or more: one cannot show a frozen map.")
    running = session(graph.model, prepacked=graph.prepacked)
    source = next(e.name for e in model.graph.input if e.name in {i.name for i in running.get_inputs()})
    own_graph = _Graph(running, source)
    inputs = checking_inputs(graph, samples, np.roll(samples, 1, axis=0) / 2)
    automatic = own_graph.run(samples, np.full(len(samples), -1, np.int64), inputs)
    logits = automatic[model.graph.output[0].name]
    chosen = own_graph.run(samples, logits.argmax(axis=1), inputs)
    _require(
        np.array_equal(chosen["explain"], automatic["explain"]),
        "target -1 does not explain the arg-max of the run",
    )
    classes = np.argsort(-logits[0], kind="stable")[:2]
    # One class for all samples at a time: only then does an equal map mean an equal gradient.
    targets = np.repeat(classes[:, None], len(samples), axis=1).astype(np.int64)
    results = [own_graph.run(samples, target, inputs) for target in targets]
    _require_sums(graph, own_graph, results, samples, targets, inputs, model.graph.output[0].name)
    missing = _completeness_error(graph, own_graph, results, samples, targets)
    # What follows takes memory of its own: the session's is given back.
    del running, own_graph
    twin = None if graph.method in ROW_BY_ROW else Float64Twin(graph.model, rows_at_once(model))
    aim, oracles = [], []
    for target in targets:
        feed = {source: samples, "target": target, **inputs}
        aim.append(row_by_row(graph, model, feed) if twin is None else twin.run(feed)["explain"])
        if oracle is not None:
            oracles.append(oracle(samples, target, inputs))
    own = np.stack([result["explain"] for result in results])
    exact = _checked(agreement(own, np.stack(aim)), "plain loops" if twin is None else "float64 evaluation")
    second = _checked(agreement(own, np.stack(oracles)), "the oracle") if oracles else None
    slope = difference_error(graph, model, samples)
    _require(
        slope is None or slope <= DIFFERENCE_ERROR_MAX,
        f"it differs from finite differences by {slope} of their size, expected at most {DIFFERENCE_ERROR_MAX}",
    )
    largest = max(1.0, float(np.abs(logits).max()))
    allowed = COMPLETENESS_ERROR_MAX.get(graph.method, EXACT_ERROR_MAX)
    # Of a surrogate's map nobody expects that it adds up to the logit of the model with its roundings.
    _require(
        missing is None or graph.gradient_ste or missing <= allowed * largest,
        f"what it returns misses the logit by {missing}, expected at most {allowed * largest:.2g}",
    )
    x = samples if graph.method in _TIMES_INPUT else None
    frozen = frozen_map(own, np.stack(oracles or aim), x)
    if frozen == "constant_gradient" and graph.method not in _BLIND:
        _require(
            _affine(model, source, samples),
            "its map is the same for every input, and the network is not affine",
        )
    return Verification(
        samples=len(samples),
        targets=len(targets),
        cosine_to_float64=exact.cosine,
        q999_error_over_max=exact.q999_error_over_max,
        cosine_to_torch=None if second is None else second.cosine,
        q999_error_over_max_torch=None if second is None else second.q999_error_over_max,
        completeness_error_max=missing,
        frozen_map=frozen,
    )


def _require_sums(
    graph: ExplainGraph,
    own_graph: _Graph,
    results: list[dict[str, NDArray[Any]]],
    samples: NDArray[np.float32],
    targets: NDArray[np.int64],
    inputs: Inputs,
    logits: str,
) -> None:
    """Ask of a map between two inputs that its error is what the logits and the map themselves say."""
    if not (graph.completeness and "baseline" in inputs):
        return
    rows = np.arange(len(samples))
    for target, result in zip(targets, results, strict=True):
        low = own_graph.run(inputs["baseline"], target, inputs)[logits]
        fall = (result[logits] - low)[rows, target]
        stated = fall - result["explain"].reshape(len(samples), -1).sum(axis=1, dtype=np.float64)
        apart = float(np.abs(stated - result["completeness_error"]).max())
        size = max(1.0, float(np.abs(result[logits]).max()))
        _require(apart <= EXACT_ERROR_MAX * size, f"its completeness error is wrong by {apart:.2g}")


def _completeness_error(
    graph: ExplainGraph,
    own_graph: _Graph,
    results: list[dict[str, NDArray[Any]]],
    samples: NDArray[np.float32],
    targets: NDArray[np.int64],
) -> float | None:
    """Return the largest completeness error, at the usual number of steps where there are steps."""
    if not graph.completeness:
        return None
    if not graph.inputs:
        return float(max(np.abs(result["completeness_error"]).max() for result in results))
    found = []
    for row, target in zip(samples[:, None], targets[0], strict=True):  # one at a time: each is many rows
        usual = explain_inputs(graph.inputs, row.shape, steps=graph.steps, seed=0, settings=graph.settings)
        found.append(float(np.abs(own_graph.run(row, target[None], usual)["completeness_error"]).max()))
    return max(found)


def _affine(model: onnx.ModelProto, source: str, samples: NDArray[np.float32]) -> bool:
    twin, name = Float64Twin(model), model.graph.output[0].name
    first, second = samples[:1].astype(np.float64), samples[1:2].astype(np.float64)
    # Well beyond the samples: between two that are alike a bent network may look straight.
    points = (4 * first - 3 * second, 4 * second - 3 * first, (first + second) / 2)
    return is_affine(np.stack([twin.run({source: point})[name] for point in points]))


def _checked(found: Agreement, against: str) -> Agreement:
    _require(
        found.cosine >= COSINE_MIN and found.q999_error_over_max <= Q999_ERROR_MAX,
        f"its map differs from {against}: cosine {found.cosine:.6f} (expected at least {COSINE_MIN}), 99.9 % "
        f"quantile of the error {found.q999_error_over_max:.2g} of the maximum (expected at most {Q999_ERROR_MAX})",
    )
    return found


def _require(condition: bool, failure: str) -> None:
    if not condition:
        raise VerificationError(f"The explain graph fails its check: {failure}.")
