"""The task itself: cross-entropy against the labels."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat
from torch import Generator, Tensor
from torch.nn import functional

from clearweight.exporter.objective.term import Batch, Needs


class TaskConfig(BaseModel):
    """Weight of the task loss."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    term: Literal["task"] = "task"
    weight: PositiveFloat = 1.0


class Task:
    """Cross-entropy of the student's logits against the labels."""

    config_type: ClassVar = TaskConfig

    def __init__(self, config: TaskConfig) -> None:
        self.weight = config.weight
        self.needs = Needs()

    def loss(self, batch: Batch, _generator: Generator) -> Tensor:
        """Mean cross-entropy in nats."""
        return functional.cross_entropy(batch.student.logits, batch.labels)
