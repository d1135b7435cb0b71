"""Distillation: the student's answer follows the reference's, not only the label."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat
from torch import Generator, Tensor
from torch.nn import functional

from clearweight.exporter.objective.term import Batch, Needs


def distillation_loss(student: Tensor, reference: Tensor, temperature: float) -> Tensor:
    """KL divergence of softened class probabilities, times the squared temperature.

    ``T^2 KL(softmax(z_r / T) || softmax(z_s / T))``, averaged over the batch; the factor keeps the gradient's
    scale independent of T.

    Parameters
    ----------
    student, reference : logits, shape (n, classes)
    temperature : T > 0

    References
    ----------
    Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, section 2.
    """
    soft = functional.log_softmax(student / temperature, 1)
    aim = functional.log_softmax(reference / temperature, 1)
    return functional.kl_div(soft, aim, reduction="batchmean", log_target=True) * temperature**2


class DistillationConfig(BaseModel):
    """Weight and temperature of the distillation loss."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    term: Literal["distillation"] = "distillation"
    weight: PositiveFloat = 1.0
    temperature: PositiveFloat = 4.0


class Distillation:
    """`distillation_loss` against the reference's logits."""

    config_type: ClassVar = DistillationConfig

    def __init__(self, config: DistillationConfig) -> None:
        self.weight = config.weight
        self.temperature = config.temperature
        self.needs = Needs()

    def loss(self, batch: Batch, _generator: Generator) -> Tensor:
        """Softened KL divergence in nats."""
        return distillation_loss(batch.student.logits, batch.reference.logits, self.temperature)
