"""The training loop that every step shares: Fabric decides device and processes, the objective the loss."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from lightning_fabric import Fabric
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

from clearweight.exporter.errors import StepError

Loss = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Generator], Tensor]
Progress = Callable[[str, int, int, float | None], None]


def silent(_what: str, _step: int, _steps: int, _loss: float | None) -> None:
    """Report nothing."""


class FineTuning(BaseModel):
    """How long and how fast a step trains.

    Attributes
    ----------
    epochs : passes over the fitting split
    batch_size : global, over all processes
    schedule : ``cosine`` falls from ``learning_rate`` to 0; ``one_cycle`` rises to it over the first 30 % and falls
    precision : what layers compute in; weights, and what the optimizer keeps, are float32 in either. Left out of what a
        step says about itself where it is the usual one, so that finished work is found under the name that it has
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    epochs: PositiveInt
    learning_rate: PositiveFloat = 1e-3
    batch_size: PositiveInt = 128
    schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"
    optimizer: Literal["adam", "sgd"] = "adam"
    weight_decay: NonNegativeFloat = 0.0
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", exclude_if=lambda value: value == "float32"
    )


@dataclass(frozen=True)
class Samples:
    """Inputs and labels of one split, ready for the network.

    Attributes
    ----------
    inputs : float32, (n, *shape), preprocessed
    labels : int64, (n,)
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Runtime:
    """Where and how training runs.

    Attributes
    ----------
    fabric : device, precision, processes
    seed : every random choice of a step derives from it
    progress : called as (what, step, steps, loss); loss is None for work that has none
    """

    fabric: Fabric
    seed: int
    progress: Progress = silent


def learning_rate_factor(schedule: str, step: int, steps: int) -> float:
    """Return the share of the peak learning rate at ``step`` of ``steps``, in (0, 1].

    >>> [round(learning_rate_factor("cosine", s, 4), 3) for s in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    done = step / steps
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    rise = 0.3
    if done < rise:
        return 0.04 + 0.96 * 0.5 * (1.0 - math.cos(math.pi * done / rise))
    return 0.5 * (1.0 + math.cos(math.pi * (done - rise) / (1.0 - rise)))


def epoch_batches(
    size: int, batch_size: int, generator: Generator, rank: int, world: int
) -> Iterator[Tensor]:
    """Yield the index batches of one epoch for one process; the last, incomplete batch is left out.

    All processes draw the same permutation and take every ``world``-th index of a global batch, so the global
    batches do not depend on the number of processes.
    """
    order = torch.randperm(size, generator=generator)
    for start in range(0, size - batch_size + 1, batch_size):
        yield order[start + rank : start + batch_size : world]


def _optimizer(model: nn.Module, config: FineTuning) -> torch.optim.Optimizer:
    free = [p for p in model.parameters() if p.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(free, config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)
    return torch.optim.Adam(free, config.learning_rate, weight_decay=config.weight_decay)


def _laid_out(inputs: Tensor, *, narrow: bool) -> Tensor:
    """Return images with their channels last where training computes in fewer bits: kernels for those expect it."""
    return inputs.contiguous(memory_format=torch.channels_last) if narrow and inputs.ndim == 4 else inputs


def fit(
    model: nn.Module,
    samples: Samples,
    loss: Loss,
    config: FineTuning,
    runtime: Runtime,
    *,
    what: str,
    on_gradients: Callable[[int, int], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> None:
    """Train ``model`` in place.

    Parameters
    ----------
    loss : (forward, inputs, labels, generator) -> scalar
    what : name of the work, for progress and errors
    on_gradients : called after each backward pass as (step, steps), before the optimizer moves
    on_step : called after the optimizer moved

    Raises
    ------
    StepError
        The split is smaller than one batch, or the loss is not finite.
    """
    fabric = runtime.fabric
    if len(samples) < config.batch_size:
        raise StepError(
            f"{what}: the fitting split has {len(samples)} samples, expected at least one batch of {config.batch_size}."
        )
    shuffle = Generator().manual_seed(runtime.seed)
    draws = Generator().manual_seed(runtime.seed + 1)
    model.train()
    wrapped, optimizer = fabric.setup(model, _optimizer(model, config))
    inputs = samples.inputs.to(fabric.device)
    labels = samples.labels.to(fabric.device)
    steps = config.epochs * (len(samples) // config.batch_size)
    narrow = config.precision == "bfloat16"
    step = 0
    for _ in range(config.epochs):
        for index in epoch_batches(
            len(samples), config.batch_size, shuffle, fabric.global_rank, fabric.world_size
        ):
            rate = config.learning_rate * learning_rate_factor(config.schedule, step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(fabric.device.type, torch.bfloat16, enabled=narrow):
                value = loss(wrapped, _laid_out(inputs[index], narrow=narrow), labels[index], draws)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(value)
            if on_gradients is not None:
                on_gradients(step, steps)
            optimizer.step()
            step += 1
            if on_step is not None:
                on_step(step, steps)
            if step % 50 == 0 or step == steps:
                shown = float(value.detach())
                if not math.isfinite(shown):
                    raise StepError(
                        f"{what}: the loss is {shown} at step {step} of {steps}; expected a finite number. "
                        "Try a smaller learning rate."
                    )
                runtime.progress(what, step, steps, shown)
    model.eval()
