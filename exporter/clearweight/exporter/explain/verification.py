"""Proving an explain graph right before it ships.

Four independent looks at the same maps: the graph in float64 on onnx's reference implementation (is the arithmetic
right?), finite differences of the model itself in float64 (is it the derivative?), an oracle such as torch autograd
where there is one, and the frozen-map test (does the map follow its input and its target? A graph exported with a
traced gradient can return the same map for every input).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.artifact import Verification
from clearweight.exporter.explain.difference import difference_error
from clearweight.exporter.explain.errors import VerificationError
from clearweight.exporter.explain.explain_graph import ExplainGraph
from clearweight.exporter.explain.float64 import Float64Twin
from clearweight.exporter.graph import session

Map = NDArray[np.floating[Any]]
Oracle = Callable[[NDArray[np.float32], NDArray[np.int64]], Map]

# A ReLU whose input is zero up to rounding may open in one precision and stay shut in the other, which moves isolated
# elements: so maps are compared by direction and a high quantile, never by the largest error.
COSINE_MIN = 0.999
Q999_ERROR_MAX = 0.1
DIFFERENCE_ERROR_MAX = 1e-3
COMPLETENESS_ERROR_MAX = 1e-3
_SAME = 1e-6


@dataclass(frozen=True)
class Agreement:
    """How well maps agree with those they should be: the worst cosine and the worst quantile of the error."""

    cosine: float
    q999_error_over_max: float


def verify(
    graph: ExplainGraph, model: onnx.ModelProto, samples: NDArray[np.float32], oracle: Oracle | None
) -> Verification:
    """Check an explain graph on ONNX Runtime against everything that knows better.

    Parameters
    ----------
    graph : from ``build``
    model : the model it was built from
    samples : (n, ...) float32, two or more different inputs; float64 evaluation takes about a second for each
    oracle : ``(x, target) -> maps`` with target INT64 (n,) in 0..C-1, or None

    Returns
    -------
    Verification
        Worst values over all samples, for two targets: the first two classes of the first sample.

    Raises
    ------
    VerificationError
        The maps differ from what they should be, or do not follow input or target.
    ValueError
        Fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError(f"Got {len(samples)} samples, expected two or more: one cannot show a frozen map.")
    runtime = session(graph.model)
    source = next(
        entry.name for entry in model.graph.input if entry.name in {i.name for i in runtime.get_inputs()}
    )
    names = [output.name for output in runtime.get_outputs()]
    automatic = _by_name(
        names, runtime.run(None, {source: samples, "target": np.full(len(samples), -1, np.int64)})
    )
    logits = automatic[model.graph.output[0].name]
    chosen = _by_name(names, runtime.run(None, {source: samples, "target": logits.argmax(axis=1)}))
    _require(
        np.array_equal(chosen["explain"], automatic["explain"]),
        "target -1 does not explain the arg-max of the run",
    )
    classes = np.argsort(-logits[0], kind="stable")[:2]
    # One class for all samples at a time: only then does an equal map mean an equal gradient.
    targets = np.repeat(classes[:, None], len(samples), axis=1).astype(np.int64)
    twin = Float64Twin(graph.model)
    own, aim, torch_aim, completeness = [], [], [], []
    for target in targets:
        result = _by_name(names, runtime.run(None, {source: samples, "target": target}))
        own.append(result["explain"])
        aim.append(twin.run({source: samples, "target": target})["explain"])
        if oracle is not None:
            torch_aim.append(oracle(samples, target))
        if graph.completeness:
            completeness.append(np.abs(result["completeness_error"]).max())
    exact = _checked(agreement(np.stack(own), np.stack(aim)), "float64 evaluation")
    second = _checked(agreement(np.stack(own), np.stack(torch_aim)), "the oracle") if torch_aim else None
    slope = difference_error(graph, model, samples)
    _require(
        slope <= DIFFERENCE_ERROR_MAX, f"it differs from finite differences by {slope:.2g} of their size"
    )
    missing = float(max(completeness)) / max(1.0, float(np.abs(logits).max())) if completeness else None
    _require(
        missing is None or missing <= COMPLETENESS_ERROR_MAX,
        f"map and linear bias miss the logit by {missing} of the largest logit",
    )
    return Verification(
        samples=len(samples),
        targets=len(targets),
        cosine_to_float64=exact.cosine,
        q999_error_over_max=exact.q999_error_over_max,
        cosine_to_torch=None if second is None else second.cosine,
        q999_error_over_max_torch=None if second is None else second.q999_error_over_max,
        completeness_error_max=float(max(completeness)) if completeness else None,
        frozen_map=frozen_map(np.stack(own), np.stack(torch_aim or aim), samples, graph.method),
    )


def agreement(own: Map, aim: Map) -> Agreement:
    """Compare maps (targets, n, ...) one by one and keep the worst.

    Two zero maps agree; the error of one map is relative to the largest value over all of ``aim``'s maps of that
    target, so that an all but empty map is not measured by its own rounding.
    """
    cosine, error = 1.0, 0.0
    for got, expected in zip(own.astype(np.float64), aim.astype(np.float64), strict=True):
        scale = np.abs(expected).max()
        for a, b in zip(got.reshape(len(got), -1), expected.reshape(len(expected), -1), strict=True):
            if not np.isfinite(a).all():
                return Agreement(-1.0, float("inf"))
            size = np.linalg.norm(a) * np.linalg.norm(b)
            # An empty map has no direction: it agrees with another empty one and with nothing else.
            alike = 1.0 if np.allclose(a, b, rtol=0, atol=_SAME * scale) else 0.0
            cosine = min(cosine, float(a @ b / size) if size > 0 else alike)
            error = max(
                error,
                float(np.quantile(np.abs(a - b), 0.999) / scale) if scale > 0 else float(np.abs(a).max()),
            )
    return Agreement(cosine, error)


def frozen_map(own: Map, aim: Map, samples: NDArray[np.float32], method: str) -> str:
    """Test that maps differ where the oracle's differ: between two inputs, and between two targets.

    Parameters
    ----------
    own, aim : (targets, n, ...) maps of the graph and of the oracle

    Returns
    -------
    "passed", or "constant_gradient" where the oracle's gradient is the same for every input (an affine model)

    Raises
    ------
    VerificationError
        A map stays the same where the oracle's changes.
    """
    for axis, what in ((1, "inputs"), (0, "targets")):
        moved, expected = (_moves(maps, axis) for maps in (own, aim))
        _require(
            bool((moved >= 0.5 * expected).all()),
            f"its map is the same for two {what} where the oracle's differ",
        )
    return "constant_gradient" if _is_constant(aim, samples, method) else "passed"


def _moves(maps: Map, axis: int) -> NDArray[np.float64]:
    """Return how far neighbouring maps along an axis lie apart, relative to their size; nothing below rounding."""
    lined = np.moveaxis(maps, axis, 0).astype(np.float64)
    apart = np.abs(np.diff(lined, axis=0)).reshape(len(lined) - 1, lined.shape[1], -1).max(axis=-1)
    scale = np.abs(lined).max()
    far: NDArray[np.float64] = np.where(apart > 1e-3 * scale, apart / max(scale, 1e-300), 0.0)
    return far


def _is_constant(aim: Map, samples: NDArray[np.float32], method: str) -> bool:
    """Tell whether every input has the same gradient; maps of input x gradient are compared after crossing inputs."""
    maps = aim.astype(np.float64)
    scale = np.abs(maps).max()
    if method != "input_x_gradient":
        return bool(np.abs(maps - maps[:, :1]).max() <= _SAME * scale)
    x = samples.astype(np.float64)
    crossed = maps * x[:1] - maps[:, :1] * x
    return bool(np.abs(crossed).max() <= _SAME * scale * np.abs(x).max())


def _by_name(names: list[str], values: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return dict(zip(names, values, strict=True))


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
