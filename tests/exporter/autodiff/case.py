"""What a case is: one use of an operator, and how its inputs are drawn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from clearweight.exporter.autodiff import OpKey, op_key

Sampler = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(rng, shape):
    return rng.normal(size=shape)


def away_from_zero(rng, shape):
    return rng.choice([-1.0, 1.0], size=shape) * rng.uniform(0.2, 2.0, size=shape)


def away_from_one(rng, shape):
    """For Clip to [-1, 1]: well inside or well outside."""
    return (
        rng.choice([-1.0, 1.0], size=shape)
        * rng.choice([0.5, 1.5], size=shape)
        * rng.uniform(0.8, 1.2, size=shape)
    )


def distinct(rng, shape):
    """No two values nearer than 0.01: a pool has one maximum, and a small step does not change it."""
    return 0.01 * rng.permutation(int(np.prod(shape))).reshape(shape) - 1.0


def positive(rng, shape):
    return rng.uniform(0.5, 2.0, size=shape)


def away_from(*points, gap=0.02, spread=2.0):
    """Normal values, none of them near a point where the derivative jumps."""

    def sampler(rng, shape):
        x = spread * rng.normal(size=shape)
        for point in points:
            near = np.abs(x - point) < gap
            x = np.where(near, point + gap * np.where(x >= point, 1.5, -1.5), x)
        return x

    return sampler


def few_levels(rng, shape):
    """Values from a handful of levels, zeros among them: ties in every window."""
    return rng.integers(-1, 2, size=shape).astype(float)


@dataclass(frozen=True)
class Case:
    """One use of one operator.

    ``shapes`` are those of the float inputs that are differentiated, at the positions that ``settings`` (constants
    of the graph) and ``weights`` (parameters that are not differentiated) leave free. ``free`` names the (input,
    axis) pairs that the graph leaves open as ``N``. ``step`` is that of the central difference: larger where the
    reference evaluator computes in single precision inside. ``places`` counts further outputs that are whole numbers.
    """

    op: str
    shapes: tuple[tuple[int, ...], ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    sampler: Sampler = normal
    tol: float = 1e-7
    oracle: Callable[..., torch.Tensor] | None = None
    settings: Mapping[int, Any] = field(default_factory=dict)
    weights: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    free: tuple[tuple[int, int], ...] = ((0, 0),)
    opset: int = 18
    step: float = 1e-6
    outputs: int = 1
    places: int = 0

    @property
    def key(self) -> OpKey:
        return op_key("", self.op, self.opset)

    def __str__(self) -> str:
        settings = {at: np.asarray(value).tolist() for at, value in self.settings.items()}
        opset = "" if self.opset == 18 else f"-opset{self.opset}"
        return f"{self.key}{opset}-{self.shapes}-{dict(self.attrs)}-{settings}".replace(" ", "")


def ints(*values):
    return np.array(values, np.int64)


ANY = (2, 3, 4)
