"""A network and a workbench small enough for every test to train on."""

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from clearweight.exporter.compress import Workbench
from clearweight.exporter.objective import Objective, Task, TaskConfig
from clearweight.exporter.training import Runtime, Samples


@pytest.fixture
def tiny_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)).eval()


@pytest.fixture
def samples() -> Samples:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.rand(128, 1, 4, 4, generator=generator)
    labels = inputs.flatten(1)[:, :4].argmax(1)
    return Samples(inputs, labels)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(Fabric(accelerator="cpu", devices=1), seed=0)


@pytest.fixture
def bench(samples: Samples, runtime: Runtime, tiny_model: nn.Module) -> Workbench:
    import copy

    reference = copy.deepcopy(tiny_model)
    for parameter in reference.parameters():
        parameter.requires_grad_(requires_grad=False)
    return Workbench(samples, Objective(reference, [Task(TaskConfig())]), runtime)
