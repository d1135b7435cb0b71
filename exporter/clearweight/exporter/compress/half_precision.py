"""Half precision for what is stored as it is: codebooks, and parameters without a codebook.

A few hundred biases and codebook entries weigh as much as the index streams of a small network. Rounded to
float16 they take half the bytes; the packed format stores any block in float16 whose values all are float16.
"""

from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from clearweight.exporter.compress.constraint import (
    SharedCodebook,
    constraints_of,
    free_value,
    parameter_names,
    value_of,
)
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError


class HalfPrecisionConfig(BaseModel):
    """Half precision has no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["half_precision"] = "half_precision"


def round_half(value: Tensor) -> Tensor:
    """Round to the nearest float16, ties to even, kept as float32; beyond the range to its largest value."""
    limit = torch.finfo(torch.float16).max
    return value.clamp(-limit, limit).to(torch.float16).to(value.dtype)


class HalfPrecision:
    """Round codebooks and uncoded parameters to float16."""

    name: ClassVar = "half_precision"
    config_type: ClassVar = HalfPrecisionConfig

    def __init__(self, config: HalfPrecisionConfig) -> None:
        self.config = config

    def apply(self, model: nn.Module, _bench: Workbench) -> None:
        """Round ``model`` in place; nothing is trained."""
        with torch.no_grad():
            for name in parameter_names(model):
                books = [c for c in constraints_of(model, name) if isinstance(c, SharedCodebook)]
                target = books[0].centroids if books else free_value(model, name)
                target.copy_(round_half(target))

    def ensure(self, model: nn.Module) -> None:
        """Check that every value is exactly a float16."""
        for name in parameter_names(model):
            value = value_of(model, name).detach()
            if not torch.equal(value, round_half(value)):
                raise ConstraintError(f"half_precision: {name!r} holds values beyond float16.")
