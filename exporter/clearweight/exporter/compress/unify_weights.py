"""Micro-structured weight unification and pruning: small tiles of a weight share one magnitude, or are zero, by ADMM.

Lin et al., Towards Micro-structured Weight Unification and Pruning, 2021 (arXiv 2106.08301). A weight in its matrix
layout is cut into tiles (1 x b, b x 1, b x b). In a unified tile all weights have one absolute value and keep their
signs; in a pruned one that value is zero. The weights are led into that set by the alternating direction method of
multipliers (ADMM):

    W  trains under  objective + rho/2 |W - Z + U|^2
    Z  = the nearest weights to W + U that are in the set
    U  += W - Z

in stages of growing rho (Boyd et al., Distributed Optimization and Statistical Learning via ADMM, 2011, section 3.4.1:
the scaled dual U shrinks by as much as rho grows). Then the projection becomes a constraint, and only magnitudes and
free tiles train on.
"""

import fnmatch
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

from clearweight.artifact import CodedTensor, UnifiedTensor
from clearweight.artifact.tile import FREE, PRUNED, UNIFIED
from clearweight.exporter.compress.constraint import (
    TileConstraint,
    constraints_of,
    factored,
    free_value,
    put,
    value_of,
    whole_names,
)
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.training import FineTuning, fit

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Tile = tuple[PositiveInt, PositiveInt]

LEAST_MAGNITUDE = 1e-6  # a unified tile keeps its signs


def tiles_of(weight: Tensor, tile: tuple[int, int]) -> Tensor:
    """Cut a weight, read as the matrix (outputs, all else), into tiles; (tiles, elements), along the grid's rows."""
    rows, columns = len(weight), weight[0].numel()
    cut = weight.reshape(rows // tile[0], tile[0], columns // tile[1], tile[1])
    return cut.transpose(1, 2).reshape(-1, tile[0] * tile[1])


def from_tiles(tiles: Tensor, like: Tensor, tile: tuple[int, int]) -> Tensor:
    """Put a weight of the shape of ``like`` together from its tiles."""
    rows, columns = len(like), like[0].numel()
    grid = tiles.reshape(rows // tile[0], columns // tile[1], *tile)
    return grid.transpose(1, 2).reshape(like.shape)


def kinds_of(tiles: Tensor, unify: int, prune: int) -> Tensor:
    """Choose the tiles that change least: ``prune`` of them to zero, then ``unify`` of the others to one magnitude.

    A pruned tile costs ``sum v^2``, a unified one ``sum (|v| - mean |v|)^2``. With one of both at 0 no other choice has
    a smaller sum; ties fall to the lower index.

    Returns
    -------
    uint8, (tiles,): PRUNED, UNIFIED or FREE
    """
    kinds = torch.full((len(tiles),), FREE, dtype=torch.uint8, device=tiles.device)
    energy = tiles.square().sum(1)
    kinds[torch.sort(energy, stable=True).indices[:prune]] = PRUNED
    spread = (tiles.abs() - tiles.abs().mean(1, keepdim=True)).square().sum(1)
    spread[kinds == PRUNED] = torch.inf
    kinds[torch.sort(spread, stable=True).indices[:unify]] = UNIFIED
    return kinds


def projected(tiles: Tensor, kinds: Tensor) -> Tensor:
    """Return the nearest tiles of these kinds: zero, ``sign(v) mean |v|``, or as they are."""
    one = tiles.abs().mean(1, keepdim=True).expand_as(tiles)
    unified = torch.where(tiles < 0, -one, one)
    pruned = torch.where((kinds == PRUNED)[:, None], 0.0, tiles)
    return torch.where((kinds == UNIFIED)[:, None], unified, pruned)


class MicroStructure(TileConstraint):
    """A weight of zero, unified and free tiles.

    Attributes
    ----------
    magnitudes : (unified tiles, 1), trained
    free : (free tiles, elements), trained
    kinds : uint8, the grid of tiles
    negative : bool, (unified tiles, elements): the fixed signs
    """

    kind: ClassVar = "micro_structure"
    replaces: ClassVar = True
    factors: ClassVar = ("magnitudes", "free")
    kinds: Tensor
    negative: Tensor

    def __init__(self, magnitudes: Tensor, free: Tensor, kinds: Tensor, negative: Tensor) -> None:
        super().__init__()
        self.magnitudes, self.free = nn.Parameter(magnitudes), nn.Parameter(free)
        self.register_buffer("kinds", kinds)
        self.register_buffer("negative", negative)

    def forward(self, weight: Tensor) -> Tensor:
        """Fill every tile by its kind; the tensor underneath only gives the shape."""
        kinds = self.kinds.flatten()
        tiles = self.free.new_zeros(len(kinds), self.free.shape[1])
        # A zero magnitude is +0 whatever its sign: -0 would have to be stored.
        signed = torch.where(self.negative, -self.magnitudes, self.magnitudes) + 0.0
        tiles = tiles.index_put(((kinds == UNIFIED).nonzero().flatten(),), signed)
        tiles = tiles.index_put(((kinds == FREE).nonzero().flatten(),), self.free)
        return from_tiles(tiles, weight, self._tile(weight.shape))

    def _tile(self, shape: torch.Size | tuple[int, ...]) -> tuple[int, int]:
        rows = shape[0] // self.kinds.shape[0]
        return rows, self.free.shape[1] // rows

    def tiled(
        self, name: str, values: NDArray[np.float32], factors: Mapping[str, CodedTensor]
    ) -> UnifiedTensor:
        """Return the tiles; a magnitude that a later step made negative turns its signs, one that is zero is pruned."""
        magnitudes, free = factors["magnitudes"], factors["free"]
        kinds = self.kinds.cpu().numpy().copy()
        kept = magnitudes.values[:, 0] != 0
        kinds[kinds == UNIFIED] = np.where(kept, UNIFIED, PRUNED)
        turned = magnitudes.values < 0
        book = None if magnitudes.codebook is None else np.abs(magnitudes.codebook)
        indices = None if magnitudes.indices is None else magnitudes.indices[kept]
        return UnifiedTensor(
            name=name,
            values=values,
            tile=self._tile(values.shape),
            kinds=kinds,
            magnitudes=CodedTensor("magnitudes", np.abs(magnitudes.values[kept]), book, indices),
            negative=(self.negative.cpu().numpy() != turned)[kept].astype(np.uint8),
            free=free,
        )


def micro_structure(weight: Tensor, tile: tuple[int, int], kinds: Tensor) -> MicroStructure:
    """Return the constraint that holds the projection of ``weight`` onto tiles of these kinds."""
    tiles = tiles_of(weight.detach(), tile)
    unified = tiles[kinds == UNIFIED]
    return MicroStructure(
        unified.abs().mean(1, keepdim=True).clamp_min(LEAST_MAGNITUDE),
        tiles[kinds == FREE].clone(),
        kinds.view(len(weight) // tile[0], -1),
        unified < 0,
    )


class UnifyWeightsConfig(BaseModel):
    """Settings of weight unification.

    Attributes
    ----------
    tile : rows and columns of a tile of the matrix (outputs, all else)
    unify, prune : share of each weight's tiles; one number for all weights that the tile fills, or name pattern ->
        share (first match wins; what no pattern matches is left as it is)
    stages : of ADMM; 0 projects at once, the control that shows what ADMM is worth
    rho, growth : penalty of the first stage, and by how much it grows from stage to stage
    admm : training of each stage; Z and U move after each epoch, so that W has come to rest between
    fine_tune : of magnitudes and free tiles, and all other parameters, under the constraint
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["unify_weights"] = "unify_weights"
    tile: Tile = (1, 4)
    unify: Share | dict[str, Share] = 0.0
    prune: Share | dict[str, Share] = 0.0
    stages: NonNegativeInt = 4
    rho: PositiveFloat = 1e-2
    growth: Annotated[float, Field(ge=1.0)] = 10.0
    admm: FineTuning
    fine_tune: FineTuning


def shares_of(config: UnifyWeightsConfig, model: nn.Module) -> dict[str, tuple[float, float]]:
    """Return the shares of tiles to unify and to prune, of each weight that ``config`` names.

    Raises
    ------
    ConstraintError
        A pattern matches no weight that the tile fills, or a weight's shares are more than all.
    """
    known = [name for name in whole_names(model) if _fits(model, name, config.tile)]
    unify, prune = _matched(config.unify, known, config), _matched(config.prune, known, config)
    shares = {n: (unify.get(n, 0.0), prune.get(n, 0.0)) for n in known if unify.get(n) or prune.get(n)}
    for name, pair in shares.items():
        if sum(pair) > 1.0:
            raise ConstraintError(
                f"unify_weights: {name!r} is to have {pair[0]} of its tiles unified and {pair[1]} pruned; expected at "
                "most 1 together."
            )
    if not shares:
        raise ConstraintError("unify_weights: unify and prune leave every weight as it is.")
    return shares


def _matched(
    wanted: float | dict[str, float], known: list[str], config: UnifyWeightsConfig
) -> dict[str, float]:
    if not isinstance(wanted, dict):
        return dict.fromkeys(known, wanted)
    found: dict[str, float] = {}
    for pattern, share in wanted.items():
        matched = fnmatch.filter(known, pattern)
        if not matched:
            raise ConstraintError(
                f"unify_weights: the pattern {pattern!r} matches no weight that tiles of {config.tile} fill. Weights: "
                f"{', '.join(known) or 'none'}."
            )
        for name in matched:
            found.setdefault(name, share)
    return found


def _fits(model: nn.Module, name: str, tile: tuple[int, int]) -> bool:
    value = value_of(model, name)
    return value.ndim > 1 and value.numel() > 0 and not (len(value) % tile[0] or value[0].numel() % tile[1])


class Admm:
    """The split variables of all weights: Z in the set, U the scaled dual.

    Attributes
    ----------
    residuals : relative primal residual ``|W - Z| / |W|`` over all weights, before each update of U
    """

    def __init__(
        self, model: nn.Module, shares: Mapping[str, tuple[float, float]], tile: tuple[int, int]
    ) -> None:
        self._weights = {name: value_of(model, name) for name in shares}
        self._shares, self._tile = shares, tile
        self._dual = {name: torch.zeros_like(w) for name, w in self._weights.items()}
        self.residuals: list[float] = []
        self._split = {name: self._project(name, w.detach()) for name, w in self._weights.items()}

    def kinds(self, name: str, value: Tensor) -> Tensor:
        """Choose the tiles of one weight."""
        tiles = tiles_of(value, self._tile)
        unify, prune = (round(share * len(tiles)) for share in self._shares[name])
        return kinds_of(tiles, min(unify, len(tiles) - prune), prune)

    def _project(self, name: str, value: Tensor) -> Tensor:
        return from_tiles(projected(tiles_of(value, self._tile), self.kinds(name, value)), value, self._tile)

    def penalty(self, rho: float) -> Tensor:
        """Return ``rho/2 |W - Z + U|^2`` over all weights."""
        gaps = [(w - self._split[n] + self._dual[n]).square().sum() for n, w in self._weights.items()]
        return 0.5 * rho * torch.stack(gaps).sum()

    @torch.no_grad()
    def update(self) -> None:
        """Move Z to the nearest point of the set, then U by what is left between."""
        left = total = 0.0
        for name, weight in self._weights.items():
            self._split[name] = self._project(name, weight + self._dual[name])
            gap = weight - self._split[name]
            self._dual[name] += gap
            left, total = left + float(gap.square().sum()), total + float(weight.square().sum())
        self.residuals.append((left / total) ** 0.5 if total else 0.0)

    def rescale(self, factor: float) -> None:
        """Shrink the scaled dual when rho has grown by ``factor``: their product, the dual itself, stays."""
        self._dual = {name: dual / factor for name, dual in self._dual.items()}


class UnifyWeights:
    """Lead weights into tiles by ADMM, put them under that constraint, and train what is left.

    Attributes
    ----------
    residuals : of each ADMM stage, the relative primal residual at each update
    """

    name: ClassVar = "unify_weights"
    config_type: ClassVar = UnifyWeightsConfig

    def __init__(self, config: UnifyWeightsConfig) -> None:
        self.config = config
        self.residuals: list[list[float]] = []

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Unify and train ``model`` in place."""
        config = self.config
        shares = shares_of(config, model)
        for name in shares:
            if any(True for _ in constraints_of(model, name)):
                raise ConstraintError(f"unify_weights: {name!r} is constrained already.")
        admm = Admm(model, shares, config.tile)
        for stage in range(config.stages):
            self._train(model, bench, admm, stage)
        for name in shares:
            weight = value_of(model, name).detach()
            put(model, name, micro_structure(weight, config.tile, admm.kinds(name, weight)))

        def keep_signs(_step: int, _steps: int) -> None:
            with torch.no_grad():
                for name in shares:
                    free_value(model, f"{name}.magnitudes").clamp_(min=LEAST_MAGNITUDE)

        bench.fine_tune(model, config.fine_tune, self.name, on_step=keep_signs)

    def _train(self, model: nn.Module, bench: Workbench, admm: Admm, stage: int) -> None:
        config, objective = self.config, bench.loss(model)
        rho = config.rho * config.growth**stage
        if stage:
            admm.rescale(config.growth)
        before = len(admm.residuals)

        def loss(
            forward: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor, draws: Generator
        ) -> Tensor:
            return objective(forward, inputs, labels, draws) + admm.penalty(rho)

        def on_step(step: int, steps: int) -> None:
            if step % (steps // config.admm.epochs) == 0:
                admm.update()

        fit(
            model,
            bench.samples,
            loss,
            config.admm,
            bench.runtime,
            what=f"{self.name} (stage {stage + 1} of {config.stages})",
            on_step=on_step,
        )
        self.residuals.append(admm.residuals[before:])

    def ensure(self, model: nn.Module) -> None:
        """Check that each weight has its tiles, and that they are what they are called."""
        for name, (unify, prune) in shares_of(self.config, model).items():
            found = factored(model, name)
            if not isinstance(found, MicroStructure):
                raise ConstraintError(f"unify_weights: {name!r} has no tiles.")
            tiles, kinds = tiles_of(value_of(model, name).detach(), self.config.tile), found.kinds.flatten()
            counts = torch.bincount(kinds.long(), minlength=3).tolist()
            wanted = round(unify * len(tiles)), round(prune * len(tiles))
            if counts[PRUNED] != wanted[1] or counts[UNIFIED] != min(wanted[0], len(tiles) - wanted[1]):
                raise ConstraintError(f"unify_weights: {name!r} has {counts} pruned, unified and free tiles.")
            magnitudes = tiles[kinds == UNIFIED].abs()
            if torch.count_nonzero(tiles[kinds == PRUNED]) or not torch.equal(
                magnitudes.amax(1), magnitudes.amin(1)
            ):
                raise ConstraintError(f"unify_weights: {name!r} has a tile that is not of its kind.")
