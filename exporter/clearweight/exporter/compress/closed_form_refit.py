"""Closed-form refit: the decision layer solved again on the compressed features, without training.

The ridge layer of Zhang et al., Non-Gradient Manifold Neural Network, TPAMI 2023, with the reference's logits as
targets, so that answers and explanations are repaired at once: the last layer is linear, and matched logits on the data
bring its rows back to where they were. A mask on the layer is respected.
"""

from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

from clearweight.exporter.closed_form import ridge
from clearweight.exporter.compress.constraint import (
    SharedCodebook,
    constraints_of,
    free_value,
    mask_of,
    value_of,
)
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.importance import chosen


class ClosedFormRefitConfig(BaseModel):
    """Settings of the refit.

    Attributes
    ----------
    layer : name of the decision layer, a Linear module; None is the last one of the network
    gamma : ridge, per sample
    samples : how many fitting samples it is solved on
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["closed_form_refit"] = "closed_form_refit"
    layer: str | None = None
    gamma: PositiveFloat = 1e-3
    samples: PositiveInt = 10_000


def decision_layer(model: nn.Module, layer: str | None) -> tuple[str, nn.Linear]:
    """Find the decision layer.

    Raises
    ------
    ConstraintError
        There is none of that name, or it is no Linear module with a bias.
    """
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.bias is not None}
    name = layer if layer is not None else next(reversed(linear), "")
    if name not in linear:
        known = ", ".join(linear) or "none"
        raise ConstraintError(
            f"closed_form_refit: {name!r} is no Linear layer with a bias. There are: {known}."
        )
    return name, linear[name]


def features_of(model: nn.Module, layer: nn.Linear, inputs: Tensor) -> Tensor:
    """Return what ``layer`` is given for ``inputs``; (n, d)."""
    seen: list[Tensor] = []
    with torch.no_grad(), layer.register_forward_hook(lambda _m, given, _out: seen.append(given[0])):
        for part in torch.split(inputs, 500):
            model(part)
    return torch.cat(seen)


class ClosedFormRefit:
    """Solve the decision layer again."""

    name: ClassVar = "closed_form_refit"
    config_type: ClassVar = ClosedFormRefitConfig

    def __init__(self, config: ClosedFormRefitConfig) -> None:
        self.config = config

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Refit ``model`` in place."""
        name, layer = decision_layer(model, self.config.layer)
        weight = f"{name}.weight"
        if any(isinstance(c, SharedCodebook) for c in constraints_of(model, weight)):
            raise ConstraintError(
                f"closed_form_refit: {weight!r} has a codebook already. Refit before sharing."
            )
        draws = Generator().manual_seed(bench.runtime.seed + 3)
        drawn = chosen(bench.samples, self.config.samples, draws)
        with torch.no_grad():
            aim = torch.cat([bench.objective.reference(part) for part in torch.split(drawn.inputs, 500)])
        given = features_of(model, layer, drawn.inputs)
        kept = mask_of(model, weight)
        solved, bias = ridge(given, aim, self.config.gamma * len(given), kept)
        with torch.no_grad():
            free_value(model, weight).copy_(solved)
            free_value(model, f"{name}.bias").copy_(bias)

    def ensure(self, model: nn.Module) -> None:
        """Check that the solution is finite."""
        name, _ = decision_layer(model, self.config.layer)
        if not value_of(model, f"{name}.weight").isfinite().all():
            raise ConstraintError(f"closed_form_refit: {name!r} has no finite solution; raise gamma.")
