"""`kernel_quantization`: bits per weight of ResNet-20's stages with their codebooks, and what that costs.

The published network on JPEG images: right for differences to itself, not as CIFAR-10 scores. Per growth of the
codebooks twice: as k-means leaves the kernels, and fine-tuned for a few epochs on a part of the training images towards
the network's own answers and maps. 1 x 1 convolutions there are none; the last layer has 5-bit values.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from benchmarks.post_training import Judge, cifar10, cifar10_images, figure_rows, published_resnet_20
from benchmarks.row import Row, data_folder
from clearweight.artifact import WeightsReport
from clearweight.exporter.compress import (
    KernelQuantization,
    KernelQuantizationConfig,
    Workbench,
    coded_tensors,
)
from clearweight.exporter.emission import pack
from clearweight.exporter.graph import fold_batchnorm, to_onnx
from clearweight.exporter.objective import (
    Distillation,
    DistillationConfig,
    InputMatching,
    InputMatchingConfig,
    Objective,
)
from clearweight.exporter.restructure import restructure
from clearweight.exporter.training import FineTuning, Runtime, Samples

BENCH = "kernel_quantization"
GROWTHS = (2.0, 4.0)
IMAGES, EPOCHS = 4000, 4
EXPLAINED = 200
# A learning rate that leaves every weight where it is.
STILL = FineTuning(epochs=1, learning_rate=1e-30, batch_size=100, optimizer="sgd")


def run(data: Path | None, *, quick: bool) -> Iterable[Row]:
    """Measure every growth; a quick run does not fine-tune."""
    folder = data_folder(data, "cifar10").parent
    data_folder(data, "cifar10-resnets")
    subject = cifar10("resnet_20", folder, quick=quick)
    judge = Judge(subject, EXPLAINED)
    example = torch.zeros(2, 3, 32, 32)
    network = fold_batchnorm(published_resnet_20(folder), example)
    reference = copy.deepcopy(network).requires_grad_(requires_grad=False)
    inputs, labels = (torch.from_numpy(part) for part in cifar10_images(folder, "train50k", IMAGES))
    objective = Objective(
        reference, [Distillation(DistillationConfig()), InputMatching(InputMatchingConfig())]
    )
    bench = Workbench(
        Samples(inputs, labels), objective, Runtime(Fabric(accelerator="cpu", devices=1), seed=0)
    )
    small = replace(bench, samples=Samples(inputs[:100], labels[:100]))
    tuned = FineTuning(epochs=EPOCHS, learning_rate=1e-3, batch_size=100)
    entries = FineTuning(epochs=1, learning_rate=1e-4, batch_size=100)
    for growth in GROWTHS:
        for name, desk, tune, last in (
            ("k_means", small, STILL, None),
            ("fine_tuned", bench, tuned, entries),
        ):
            if quick and name != "k_means":
                continue
            model = copy.deepcopy(network)
            config = KernelQuantizationConfig(growth=growth, bits=5, fine_tune=tune, entry_tune=last)
            KernelQuantization(config).apply(model, desk)
            yield from measured(f"growth_{growth:g}/{name}", model, judge)


def measured(case: str, model: nn.Module, judge: Judge) -> Iterator[Row]:
    """Pack one network: bits per weight of each stage, then what `post_training` tells of a network."""
    exact = to_onnx(model, torch.zeros(2, 3, 32, 32))
    data, report = pack(restructure(model, exact, coded_tensors(model)).tensors)
    for stage, bits in stage_bits(report).items():
        yield Row(BENCH, case, f"{stage}_bits_per_weight", bits, "bits")
    yield from figure_rows(BENCH, case, judge.figures(exact, len(data)))


def stage_bits(report: WeightsReport) -> dict[str, float]:
    """Return bits per weight of the convolutions of each stage, heads and codebooks included."""
    found: dict[str, list[tuple[int, int]]] = {}
    for record in report.records:
        if len(record.shape) == 4:
            found.setdefault(record.name.partition(".")[0], []).append((8 * record.bytes, record.size))
    return {stage: float(np.divide(*np.sum(parts, axis=0))) for stage, parts in found.items()}
