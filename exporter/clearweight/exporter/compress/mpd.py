"""MPDCompress: layers that are block-diagonal behind permutations, trained under that mask, run as small products.

Supic et al., MPDCompress - Matrix Permutation Decomposition Algorithm for Deep Neural Network Compression, 2018
(arXiv 1805.12085). A layer's inputs and outputs are dealt at random into ``c`` blocks of equal size, as far as they
go; a weight stays where both ends lie in the same block. That is a random-looking mask which needs no addresses: one
block's rows and columns, gathered, are a small dense matrix.
"""

import fnmatch
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor, nn

from clearweight.exporter.compress.constraint import (
    Constraint,
    constraints_of,
    parameter_names,
    put,
    value_of,
)
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.training import FineTuning

# A byte says in which block a unit lies, one of its values that it is in none.
Blocks = Annotated[int, Field(ge=2, le=255)]


class BlockMask(Constraint):
    """Keep the weights whose output and input lie in the same block.

    Attributes
    ----------
    rows, columns : int64, block of each output and of each input
    """

    kind: ClassVar = "blocks"
    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows.long())
        self.register_buffer("columns", columns.long())

    def forward(self, weight: Tensor) -> Tensor:
        """Return ``weight`` (outputs, inputs) with everything off the blocks at zero."""
        return torch.where(self.rows[:, None] == self.columns, weight, 0.0)


class MpdConfig(BaseModel):
    """Settings of MPDCompress.

    Attributes
    ----------
    blocks : by how much each layer shrinks; name pattern -> blocks (first match wins; other layers stay dense)
    permuted : False deals neighbours into the same block: the control that shows what the permutation is worth
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["mpd"] = "mpd"
    blocks: dict[str, Blocks]
    permuted: bool = True
    fine_tune: FineTuning


def dealt(count: int, blocks: int, order: Tensor) -> Tensor:
    """Deal ``count`` places, in ``order``, into blocks whose sizes differ by one at most; block of each place."""
    found = torch.empty(count, dtype=torch.int64)
    found[order] = torch.arange(count) * blocks // count
    return found


def blocks_of(config: MpdConfig, model: nn.Module) -> dict[str, int]:
    """Return the number of blocks of each weight that ``config`` names.

    Raises
    ------
    ConstraintError
        A pattern matches no weight of a linear layer, or a layer is too narrow for so many blocks.
    """
    weights = [name for name in parameter_names(model) if value_of(model, name).ndim == 2]
    result: dict[str, int] = {}
    for pattern, blocks in config.blocks.items():
        matched = fnmatch.filter(weights, pattern)
        if not matched:
            raise ConstraintError(
                f"mpd: the pattern {pattern!r} matches no weight of a linear layer. Weights: {', '.join(weights)}."
            )
        for name in matched:
            if min(value_of(model, name).shape) < blocks:
                raise ConstraintError(
                    f"mpd: {name!r} of shape {tuple(value_of(model, name).shape)} has no room for {blocks} blocks."
                )
            result.setdefault(name, blocks)
    return result


def block_masks(model: nn.Module) -> Mapping[str, BlockMask]:
    """Return the block structure of every parameter that has one."""
    return {
        name: constraint
        for name in parameter_names(model)
        for constraint in constraints_of(model, name)
        if isinstance(constraint, BlockMask)
    }


class Mpd:
    """Put permuted block-diagonal masks on linear layers and train under them."""

    name: ClassVar = "mpd"
    config_type: ClassVar = MpdConfig

    def __init__(self, config: MpdConfig) -> None:
        self.config = config

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Mask and train ``model`` in place; the seed decides the permutations."""
        draws = Generator().manual_seed(bench.runtime.seed)
        for name, blocks in blocks_of(self.config, model).items():
            rows, columns = (
                dealt(
                    n, blocks, torch.randperm(n, generator=draws) if self.config.permuted else torch.arange(n)
                )
                for n in value_of(model, name).shape
            )
            device = value_of(model, name).device
            put(model, name, BlockMask(rows.to(device), columns.to(device)))
        bench.fine_tune(model, self.config.fine_tune, self.name)

    def ensure(self, model: nn.Module) -> None:
        """Check that each layer's weights lie in its blocks, of equal size as far as that goes."""
        masks = block_masks(model)
        for name, blocks in blocks_of(self.config, model).items():
            if name not in masks:
                raise ConstraintError(f"mpd: {name!r} has no blocks.")
            rows, columns = masks[name].rows, masks[name].columns
            for places in (rows, columns):
                sizes = torch.bincount(places, minlength=blocks)
                if len(sizes) != blocks or int(sizes.max() - sizes.min()) > 1:
                    raise ConstraintError(f"mpd: blocks of {name!r} have the sizes {sizes.tolist()}.")
            if torch.count_nonzero(value_of(model, name)[rows[:, None] != columns]):
                raise ConstraintError(f"mpd: {name!r} has weights off its blocks.")
