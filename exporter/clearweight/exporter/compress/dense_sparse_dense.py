"""Dense-Sparse-Dense: train without the small weights, then let them grow back from zero.

Han et al., DSD: Dense-Sparse-Dense Training for Deep Neural Networks, ICLR 2017. It leaves no constraint behind: a
regularised start for the steps that follow. A gain only counts against the same epochs without the sparse phase, which
is ``sparsity: 0``.
"""

import fnmatch
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from clearweight.exporter.compress.allocation import kept_count, top_mask
from clearweight.exporter.compress.constraint import constraints_of, free_value, parameter_names, value_of
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.training import FineTuning


class DenseSparseDenseConfig(BaseModel):
    """Settings of Dense-Sparse-Dense.

    Attributes
    ----------
    sparsity : share of each weight tensor that is zero in the sparse phase; 0 is the equal-epoch control
    dense_layers : name patterns of weights that stay dense all the time
    sparse : the sparse phase, at the rate the reference was trained at
    dense : the last phase; the paper uses a tenth of that rate
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["dense_sparse_dense"] = "dense_sparse_dense"
    sparsity: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    dense_layers: tuple[str, ...] = ()
    sparse: FineTuning
    dense: FineTuning


class DenseSparseDense:
    """Train sparse, then dense again."""

    name: ClassVar = "dense_sparse_dense"
    config_type: ClassVar = DenseSparseDenseConfig

    def __init__(self, config: DenseSparseDenseConfig) -> None:
        self.config = config

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Train ``model`` in place."""
        config = self.config
        dropped: dict[str, Tensor] = {}
        for name in self._weights(model):
            weight = value_of(model, name).detach()
            dropped[name] = ~top_mask(weight.abs(), kept_count(weight.numel(), 1.0 - config.sparsity))

        def hold(_step: int, _steps: int) -> None:
            with torch.no_grad():
                for name, mask in dropped.items():
                    free_value(model, name).masked_fill_(mask, 0.0)

        hold(0, 0)
        bench.fine_tune(model, config.sparse, f"{self.name} (sparse)", on_step=hold)
        bench.fine_tune(model, config.dense, f"{self.name} (dense)")

    def _weights(self, model: nn.Module) -> list[str]:
        """Return the weights that take part.

        Raises
        ------
        ConstraintError
            One of them is constrained already.
        """
        names = [
            n
            for n in parameter_names(model)
            if value_of(model, n).ndim > 1
            and not any(fnmatch.fnmatchcase(n, pattern) for pattern in self.config.dense_layers)
        ]
        bound = [n for n in names if any(True for _ in constraints_of(model, n))]
        if bound:
            raise ConstraintError(
                f"dense_sparse_dense: {bound[0]!r} is already compressed. Put this step before all others."
            )
        return names

    def ensure(self, model: nn.Module) -> None:
        """Check that the last phase was dense: what was dropped has grown back."""
        for name in self._weights(model):
            zeros = float((value_of(model, name) == 0).float().mean())
            if self.config.sparsity and zeros >= self.config.sparsity:
                raise ConstraintError(f"dense_sparse_dense: {zeros:.0%} of {name!r} stayed zero.")
