"""The further inputs of explain graphs: paths, noise and masks, equal on every machine for the same seed.

Exporter and service both make them here, so a map that was verified at export is the map that a device returns.
All of them are shared by the rows of a batch: the map of a row does not depend on which others came with it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.errors import FieldValueError

Shape = tuple[int, ...]
Settings = Mapping[str, float]
# RandomState is quoted below: naming it loads numpy.random, two megabytes that a device without noise and masks saves.


def _path(steps: int, _row: Shape, _settings: Settings, _random: "np.random.RandomState") -> NDArray[Any]:
    """Gauss-Legendre points on [0, 1], (S,)."""
    return (1.0 + np.polynomial.legendre.leggauss(steps)[0]) / 2.0


def _path_weight(
    steps: int, _row: Shape, _settings: Settings, _random: "np.random.RandomState"
) -> NDArray[Any]:
    """Gauss-Legendre weights of those points, (S,), sum 1."""
    return np.polynomial.legendre.leggauss(steps)[1] / 2.0


def _noise(steps: int, row: Shape, _settings: Settings, random: "np.random.RandomState") -> NDArray[Any]:
    """Draw standard normal noise, (S, *row)."""
    return random.standard_normal((steps, *row))


def _masks(steps: int, row: Shape, settings: Settings, random: "np.random.RandomState") -> NDArray[Any]:
    """Cells that are kept (1) or hidden (0), (S, g + 1 per spatial axis), each kept with probability ``keep``."""
    cells = (int(settings["grid"]) + 1,) * len(_space(row))
    return random.uniform(size=(steps, *cells)) < settings["keep"]


def _shifts(steps: int, row: Shape, _settings: Settings, random: "np.random.RandomState") -> NDArray[Any]:
    """By what part of a cell each mask is shifted along each spatial axis, (S, axes), in [0, 1)."""
    return random.uniform(size=(steps, len(_space(row))))


def _space(row: Shape) -> Shape:
    """Return the axes over which places lie: all but the channels, or the one axis of a flat input."""
    return row[1:] if len(row) > 1 else row


_DRAWN: Mapping[str, Callable[[int, Shape, Settings, "np.random.RandomState"], NDArray[Any]]] = (
    MappingProxyType(
        {
            "path": _path,
            "path_weight": _path_weight,
            "noise": _noise,
            "masks": _masks,
            "shifts": _shifts,
        }
    )
)
BASELINE = "baseline"
EXPLAIN_INPUTS = (BASELINE, *_DRAWN)
"""Every input that an explain graph may take beside the model's own and ``target``."""


def explain_inputs(
    names: tuple[str, ...],
    shape: Shape,
    *,
    steps: int,
    seed: int,
    settings: Settings,
    baseline: NDArray[np.float32] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Make the further inputs of an explain graph.

    Parameters
    ----------
    names : those that the graph takes, from ``EXPLAIN_INPUTS``
    shape : (N, *row) of the model's input
    steps : S: path points, draws, or masks
    seed : 0 to 2^63 - 1; the same seed gives the same bits with any numpy (PCG64 bits, the frozen distributions of
        ``RandomState``)
    settings : of the explainer: ``grid`` and ``keep`` for masks
    baseline : (N, *row) or (1, *row), float32; None is zero

    Returns
    -------
    name -> float32: ``baseline`` (N, *row), ``path`` and ``path_weight`` (S,), ``noise`` (S, *row), ``masks``
    (S, g + 1, ...), ``shifts`` (S, spatial axes)

    Raises
    ------
    FieldValueError
        An unknown name, no steps, or a baseline of another shape.
    """
    if steps < 1:
        raise FieldValueError(f"An explainer was asked for {steps} steps, expected at least 1.")
    found: dict[str, NDArray[np.float32]] = {}
    for name in names:
        if name == BASELINE:
            given = np.zeros((1, *shape[1:]), np.float32) if baseline is None else baseline
            if given.shape[1:] != shape[1:] or given.shape[0] not in {1, shape[0]}:
                raise FieldValueError(f"The baseline has shape {given.shape}, expected {shape}.")
            found[name] = np.ascontiguousarray(np.broadcast_to(given.astype(np.float32), shape))
        elif name in _DRAWN:
            # One stream per name: what one input draws does not move the others.
            random = np.random.RandomState(np.random.PCG64([seed, EXPLAIN_INPUTS.index(name)]))
            found[name] = np.asarray(_DRAWN[name](steps, shape[1:], settings, random), np.float32)
        else:
            raise FieldValueError(
                f"No explain input {name!r} is known, expected some of {', '.join(EXPLAIN_INPUTS)}."
            )
    return found
