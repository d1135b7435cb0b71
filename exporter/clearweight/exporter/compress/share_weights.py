"""Trained weight sharing: the survivors of a tensor take few shared values, and those values train.

Han, Mao, Dally, Deep Compression, ICLR 2016, section 3: per tensor one-dimensional k-means with linear
initialisation, then fine-tuning of the centroids with fixed assignments.
"""

import fnmatch
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Generator, nn

from clearweight.exporter.compress.constraint import (
    SharedCodebook,
    constraints_of,
    parameter_names,
    put_codebook,
    value_of,
)
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.training import FineTuning

Bits = Annotated[int, Field(ge=1, le=8)]


class ShareWeightsConfig(BaseModel):
    """Settings of weight sharing.

    Attributes
    ----------
    bits : index width; one number for all weights, or name pattern -> bits (first match wins; a parameter that no
        pattern matches is not shared). ``bits`` give ``2^bits - 1`` centroids: one code stands for zero.
    initialisation : ``linear`` spaces the centroids evenly from minimum to maximum
    iterations : at most so many rounds of k-means
    importance : ``fisher`` weighs each squared error by what it does to the answer (Gao et al., ICML 2019)
    statistic_samples : how many fitting samples the importance is measured on
    fine_tune : trains the centroids; None leaves them where k-means put them
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["share_weights"] = "share_weights"
    bits: Bits | dict[str, Bits]
    initialisation: Literal["linear", "density"] = "linear"
    iterations: PositiveInt = 100
    importance: Literal["equal", "fisher"] = "equal"
    statistic_samples: PositiveInt = 1000
    fine_tune: FineTuning | None = None


def initial_centroids(values: NDArray[np.float64], k: int, initialisation: str) -> NDArray[np.float64]:
    """Place k centroids before k-means.

    ``linear`` spaces them evenly from the smallest to the largest value, which keeps the rare large weights;
    ``density`` puts them at evenly spaced quantiles (ICLR 2016, section 3.2).
    """
    if initialisation == "linear":
        return np.linspace(values.min(), values.max(), k)
    return np.quantile(values, (np.arange(k) + 0.5) / k)


def kmeans_1d(
    values: NDArray[np.float64],
    centroids: NDArray[np.float64],
    iterations: int,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Lloyd's algorithm on the line, exact in each round.

    Sorted values split at the midpoints between sorted centroids, so a round costs one binary search per centroid
    and differences of cumulative sums. A cluster without weight keeps its centroid where it is.

    Parameters
    ----------
    values : (n,) ; centroids : (k,)
    weights : (n,) what a squared error costs (Gao et al., ICML 2019); None is 1 for all

    Returns
    -------
    (k,) sorted centroids; stops when none moves
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    mass = np.ones_like(ordered) if weights is None else weights[order]
    masses = np.concatenate([[0.0], np.cumsum(mass)])
    sums = np.concatenate([[0.0], np.cumsum(mass * ordered)])
    now = np.sort(centroids)
    for _ in range(iterations):
        edges = np.searchsorted(ordered, (now[1:] + now[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [len(ordered)]])
        held = np.diff(masses[bounds])
        moved = np.divide(np.diff(sums[bounds]), held, out=now.copy(), where=held > 0)
        if np.array_equal(moved, now):
            break
        now = moved
    return now


def nearest(values: NDArray[np.float64], centroids: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the index of the nearest of sorted ``centroids`` for each value; a tie falls to the lower one."""
    return np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values, side="left")


def share(
    weight: NDArray[np.float32],
    bits: int,
    initialisation: str,
    iterations: int,
    importance: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cluster the non-zero entries of one tensor, weighted by ``importance`` of the tensor's shape.

    Returns
    -------
    centroids : float32, (k,), k <= 2^bits - 1, only clusters that have members
    indices : int64, the tensor's shape; 0 is zero, i stands for ``centroids[i - 1]``
    """
    alive = weight != 0
    values = weight[alive].astype(np.float64)
    indices = np.zeros(weight.shape, dtype=np.int64)
    if not len(values):
        return np.zeros(1, dtype=np.float32), indices
    k = min(2**bits - 1, len(np.unique(values)))
    start = initial_centroids(values, k, initialisation)
    centroids = kmeans_1d(values, start, iterations, None if importance is None else importance[alive])
    used, members = np.unique(nearest(values, centroids), return_inverse=True)
    indices[alive] = members + 1
    return centroids[used].astype(np.float32), indices


def bits_of(config: ShareWeightsConfig, model: nn.Module) -> dict[str, int]:
    """Return the index width of each parameter that ``config`` shares.

    Raises
    ------
    ConstraintError
        A pattern matches no parameter.
    """
    names = parameter_names(model)
    if not isinstance(config.bits, dict):
        return {name: config.bits for name in names if value_of(model, name).ndim > 1}
    result: dict[str, int] = {}
    for pattern, bits in config.bits.items():
        matched = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            raise ConstraintError(
                f"share_weights: the pattern {pattern!r} matches no parameter. Parameters: {', '.join(names)}."
            )
        for name in matched:
            result.setdefault(name, bits)
    return result


class ShareWeights:
    """Put a codebook on tensors and train its centroids."""

    name: ClassVar = "share_weights"
    config_type: ClassVar = ShareWeightsConfig

    def __init__(self, config: ShareWeightsConfig) -> None:
        self.config = config

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Share and fine-tune ``model`` in place."""
        config = self.config
        worth: dict[str, torch.Tensor] = {}
        if config.importance == "fisher":
            draws = Generator().manual_seed(bench.runtime.seed + 2)
            worth = bench.importance(model, frozenset({"fisher"}), config.statistic_samples, draws)["fisher"]
        for name, bits in bits_of(config, model).items():
            value = value_of(model, name).detach()
            centroids, indices = share(
                value.cpu().numpy(),
                bits,
                config.initialisation,
                config.iterations,
                worth[name].double().numpy() if name in worth else None,
            )
            put_codebook(
                model,
                name,
                torch.from_numpy(centroids).to(value.device),
                torch.from_numpy(indices).to(value.device),
            )
        if config.fine_tune is not None:
            bench.fine_tune(model, config.fine_tune, self.name)

    def ensure(self, model: nn.Module) -> None:
        """Check that every shared tensor holds no more values than its bits allow."""
        for name, bits in bits_of(self.config, model).items():
            books = [c for c in constraints_of(model, name) if isinstance(c, SharedCodebook)]
            if len(books) != 1 or len(books[0].codebook) > 2**bits:
                raise ConstraintError(f"share_weights: {name!r} does not hold one codebook of {bits} bits.")
