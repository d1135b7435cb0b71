"""Feature reconstruction: what layers answer follows what the reference's answer, value by value.

Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, section 2.2, without a regressor, for the compressed
network has the reference's own layers; the error relative to the signal, as Li et al., BRECQ, ICLR 2021, judge a block
by its output. The input's gradient in a network of rectifiers is a product of weights and of gates. Where features
stay, gates stay; a loss of features is smooth where one of the map is not, so it leads where matching maps finds no way
(deep networks).
"""

import fnmatch
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Generator, Tensor

from clearweight.exporter.objective.term import Batch, Needs

# Added to the reference's power: features that are zero for a whole batch are legitimate and must not give NaN.
EPSILON = 1e-12


def relative_error(student: Tensor, reference: Tensor) -> Tensor:
    """Squared error over the batch as a share of the reference's power, ``|s - r|^2 / |r|^2``; 0 is exact.

    Parameters
    ----------
    student, reference : same shape, (n, ...); computed in float32 at least
    """
    wide = torch.promote_types(student.dtype, torch.float32)
    s, r = student.to(wide), reference.to(wide)
    error: Tensor = (s - r).square().sum() / (r.square().sum() + EPSILON)
    return error


class FeatureReconstructionConfig(BaseModel):
    """Which modules' outputs are reconstructed, and how strongly.

    Attributes
    ----------
    layers : names of modules, or patterns of them (``layer?.?``, ``*.conv?``)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    term: Literal["feature_reconstruction"] = "feature_reconstruction"
    weight: PositiveFloat = 1.0
    layers: tuple[str, ...] = Field(min_length=1)


class FeatureReconstruction:
    """`relative_error` of features, the mean over the chosen layers."""

    config_type: ClassVar = FeatureReconstructionConfig

    def __init__(self, config: FeatureReconstructionConfig) -> None:
        self.weight = config.weight
        self.layers = config.layers
        self.needs = Needs(features=frozenset(config.layers))

    def loss(self, batch: Batch, _generator: Generator) -> Tensor:
        """Mean over layers of the relative squared error."""
        own, aim = batch.student.features, batch.reference.features
        names = [n for n in aim if any(fnmatch.fnmatchcase(n, pattern) for pattern in self.layers)]
        return torch.stack([relative_error(own[name], aim[name]) for name in names]).mean()
