"""Attribution matching: the student's maps follow the reference's.

Feature maps are collapsed over their channels (Park, Yang, Hwang, Yang, Attribution Preservation in Network
Compression, NeurIPS 2020): EWA without gradients, SWA weighted by the sensitivity of the logit, SSWA with a random
part of the reference's channels left out. Networks without feature maps are matched at the input.
"""

from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Generator, Tensor

from clearweight.exporter.objective.term import Batch, Needs, View

# Added to the norms: an all-zero map (every ReLU closed) is legitimate and must not give NaN.
EPSILON = 1e-12


def direction_distance(student: Tensor, reference: Tensor) -> Tensor:
    """Mean squared distance of maps scaled to unit length, ``2 - 2 cos`` per sample.

    Summed over positions, so the value does not depend on the map's size.

    Parameters
    ----------
    student, reference : (n, ...)
    """
    s = student.flatten(1)
    r = reference.flatten(1)
    s = s / (s.norm(dim=1, keepdim=True) + EPSILON)
    r = r / (r.norm(dim=1, keepdim=True) + EPSILON)
    distance: Tensor = (s - r).square().sum(1).mean()
    return distance


def equally_weighted_map(features: Tensor) -> Tensor:
    """EWA: the mean over channels of the squared features; (n, channels, *space) -> (n, *space)."""
    return features.square().mean(1)


def sensitivity_weighted_map(features: Tensor, gradients: Tensor, keep: Tensor | None = None) -> Tensor:
    """SWA: ``relu(sum_k alpha_k A_k)``, alpha_k = sum over space of dF_c/dA_k; (n, channels, *space) -> (n, *space).

    Parameters
    ----------
    features, gradients : (n, channels, *space)
    keep : (channels,) 0 or 1, the channels that take part (SSWA); None keeps all
    """
    alpha = gradients.flatten(2).sum(2)
    if keep is not None:
        alpha = alpha * keep
    weighted = features * alpha.reshape(*alpha.shape, *[1] * (features.ndim - 2))
    return torch.relu(weighted.sum(1))


class FeatureMatchingConfig(BaseModel):
    """Which feature maps are matched, how they are collapsed, and how strongly."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    term: Literal["feature_matching"] = "feature_matching"
    weight: PositiveFloat = 1.0
    variant: Literal["ewa", "swa", "sswa"] = "swa"
    layers: tuple[str, ...] = Field(min_length=1)
    dropped_channels: float = Field(default=0.3, gt=0.0, lt=1.0)


class FeatureMatching:
    """`direction_distance` of collapsed feature maps, summed over the chosen layers."""

    config_type: ClassVar = FeatureMatchingConfig

    def __init__(self, config: FeatureMatchingConfig) -> None:
        self.weight = config.weight
        self.config = config
        self.needs = Needs(features=frozenset(config.layers), feature_gradients=config.variant != "ewa")

    def loss(self, batch: Batch, generator: Generator) -> Tensor:
        """Sum over layers of ``2 - 2 cos``."""
        total = batch.student.logits.new_zeros(())
        for layer in self.config.layers:
            keep = self._kept_channels(batch.reference, layer, generator)
            aim = self._map(batch.reference, layer, keep)
            total = total + direction_distance(self._map(batch.student, layer, None), aim)
        return total

    def _map(self, seen: View, layer: str, keep: Tensor | None) -> Tensor:
        if self.config.variant == "ewa":
            return equally_weighted_map(seen.features[layer])
        return sensitivity_weighted_map(seen.features[layer], seen.feature_gradients[layer], keep)

    def _kept_channels(self, reference: View, layer: str, generator: Generator) -> Tensor | None:
        """Draw the reference's channels for this step (SSWA only; the student keeps all of its own)."""
        if self.config.variant != "sswa":
            return None
        features = reference.features[layer]
        drawn = torch.rand(features.shape[1], generator=generator) >= self.config.dropped_channels
        return drawn.to(features)


class InputMatchingConfig(BaseModel):
    """How strongly the input x gradient maps are matched."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    term: Literal["input_matching"] = "input_matching"
    weight: PositiveFloat = 1.0


class InputMatching:
    """`direction_distance` of the input x gradient maps of the reference's top class."""

    config_type: ClassVar = InputMatchingConfig

    def __init__(self, config: InputMatchingConfig) -> None:
        self.weight = config.weight
        self.needs = Needs(input_gradient=True)

    def loss(self, batch: Batch, _generator: Generator) -> Tensor:
        """``2 - 2 cos`` of the input-level maps."""
        own, aim = batch.student.input_map, batch.reference.input_map
        if own is None or aim is None:
            raise RuntimeError("The batch was evaluated without the input maps that this term declares.")
        return direction_distance(own, aim)
