"""How well maps agree with those they should be, and whether they follow what they should."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.exporter.explain.errors import VerificationError

Map = NDArray[np.floating[Any]]
_SAME = 1e-6
_MOVED = 1e-3  # of the largest value: far above rounding


@dataclass(frozen=True)
class Agreement:
    """The worst cosine and the worst 99.9 % quantile of the error, relative to the largest value."""

    cosine: float
    q999_error_over_max: float


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


def frozen_map(own: Map, aim: Map, x: NDArray[np.float32] | None = None) -> str:
    """Test that maps differ where the oracle's differ: between two inputs, and between two targets.

    What the oracle's maps do not depend on, such as the target for EWA, is not asked of ``own``.

    Parameters
    ----------
    own, aim : (targets, n, ...) maps of the graph and of the oracle
    x : the inputs (n, ...), where the maps are a gradient times its input: then the gradient alone must move

    Returns
    -------
    "passed", or "constant_gradient" where the oracle's gradient is the same for every input

    Raises
    ------
    VerificationError
        A map stays the same where the oracle's changes.
    """
    for axis, what in ((1, "inputs"), (0, "targets")):
        moved, expected = (_moves(maps, axis) for maps in (own, aim))
        if not bool((moved >= 0.5 * expected).all()):
            raise VerificationError(
                f"The explain graph fails its check: its map is the same for two {what} where the oracle's differ."
            )
    return "constant_gradient" if _is_constant(aim, x) else "passed"


def is_affine(logits: NDArray[np.float64]) -> bool:
    """Tell whether a network may be affine, from its logits at two points and half-way between them (3, n, C)."""
    first, second, between = logits
    size = np.abs(logits).max()
    return bool(np.abs((first + second) / 2 - between).max() <= _SAME * size)


def _moves(maps: Map, axis: int) -> NDArray[np.float64]:
    """Return how far neighbouring maps along an axis lie apart, relative to their size; nothing below rounding."""
    lined = np.moveaxis(maps, axis, 0).astype(np.float64)
    apart = np.abs(np.diff(lined, axis=0)).reshape(len(lined) - 1, lined.shape[1], -1).max(axis=-1)
    scale = np.abs(lined).max()
    far: NDArray[np.float64] = np.where(apart > _MOVED * scale, apart / max(scale, 1e-300), 0.0)
    return far


def _is_constant(aim: Map, x: NDArray[np.float32] | None) -> bool:
    """Tell whether every input has the same gradient; gradients times inputs are compared after crossing inputs."""
    maps = aim.astype(np.float64)
    scale = np.abs(maps).max()
    if x is None:
        return bool(np.abs(maps - maps[:, :1]).max() <= _SAME * scale)
    wide = x.astype(np.float64)
    crossed = maps * wide[:1] - maps[:, :1] * wide
    return bool(np.abs(crossed).max() <= _SAME * scale * np.abs(wide).max())
