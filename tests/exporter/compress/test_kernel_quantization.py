"""Kernel quantization: k-means against brute force, assignments that follow gradients, and tiles in the packed file."""

import copy
import io
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.artifact import WeightsReader, write_weights
from clearweight.exporter import ConstraintError
from clearweight.exporter.checkpoint import model_state, restore
from clearweight.exporter.compress import KernelQuantization, KernelQuantizationConfig, Workbench
from clearweight.exporter.compress.constraint import (
    PruneMask,
    coded_tensors,
    locate,
    parameter_names,
    put,
    put_mask,
    value_of,
)
from clearweight.exporter.compress.kernel_quantization import (
    KernelCodebook,
    _MovingKernels,
    codeword_count,
    kernels_of,
    kmeans,
    nearest_kernels,
)
from clearweight.exporter.graph import to_onnx
from clearweight.exporter.objective import Objective, Task, TaskConfig
from clearweight.exporter.restructure import restructure

TUNE = {"epochs": 2, "batch_size": 32}


@pytest.fixture
def convolutions() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 4, 1),
        nn.Flatten(),
        nn.Linear(64, 4),
    ).eval()


@pytest.fixture
def desk(samples, runtime, convolutions) -> Workbench:
    reference = copy.deepcopy(convolutions).requires_grad_(requires_grad=False)
    return Workbench(samples, Objective(reference, [Task(TaskConfig())]), runtime)


def config(**changes) -> KernelQuantizationConfig:
    return KernelQuantizationConfig(**({"codewords": 5, "fine_tune": TUNE, "entry_tune": TUNE} | changes))


def slow_best(kernels: np.ndarray, count: int) -> float:
    """The least squared error of all ways to put kernels into ``count`` clusters."""
    best = np.inf
    for labels in product(range(count), repeat=len(kernels)):
        clusters = [kernels[[i for i, label in enumerate(labels) if label == c]] for c in range(count)]
        best = min(best, sum(((c - c.mean(0)) ** 2).sum() for c in clusters if len(c)))
    return best


def error(kernels, codewords, indices) -> float:
    return float(((kernels - codewords[indices]) ** 2).sum())


def test_kmeans_reaches_the_optimum_of_brute_force_from_some_start():
    kernels = np.random.default_rng(3).normal(size=(8, 4))
    best = slow_best(kernels, 3)

    found = [error(kernels, *kmeans(kernels, 3, 50, np.random.default_rng(s))) for s in range(12)]

    assert min(found) == pytest.approx(best)
    assert all(f >= best * (1 - 1e-12) for f in found)


def test_kmeans_ends_where_no_kernel_and_no_codeword_would_move():
    kernels = np.random.default_rng(0).normal(size=(60, 9))

    codewords, indices = kmeans(kernels, 7, 200, np.random.default_rng(1))

    for kernel, index in zip(kernels, indices, strict=True):
        distances = [((kernel - codeword) ** 2).sum() for codeword in codewords]
        assert distances[index] <= min(distances) + 1e-12
    for k, codeword in enumerate(codewords):
        assert np.allclose(codeword, kernels[indices == k].mean(0))


def test_few_distinct_kernels_get_a_codeword_each():
    kernels = np.repeat(np.eye(3), 4, axis=0)

    codewords, indices = kmeans(kernels, 8, 50, np.random.default_rng(0))

    assert len(codewords) == 3
    assert np.array_equal(codewords[indices], kernels)


def test_ties_fall_to_the_lower_codeword():
    assert nearest_kernels(np.zeros((2, 1)), np.array([[1.0], [-1.0], [1.0]])).tolist() == [0, 0]


def test_codewords_grow_as_the_root_of_the_kernels_up_to_a_byte():
    counts = [codeword_count(n, config(codewords=None, growth=2)) for n in (1, 9, 256, 4096, 10**6)]

    assert counts == [1, 6, 32, 128, 256]
    assert codeword_count(10, config(codewords=200)) == 10


def test_a_codewords_gradient_is_the_sum_of_its_members_and_a_kernels_its_own(convolutions):
    weight = convolutions[2].weight.detach().clone()
    codewords, indices = kmeans(kernels_of(weight), 5, 20, np.random.default_rng(0))
    moving = _MovingKernels(torch.from_numpy(codewords).float(), torch.from_numpy(indices).view(6, 8))
    put(convolutions, "2.weight", moving)
    x = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    convolutions(x).square().sum().backward()

    own = convolutions[2].parametrizations.weight.original.grad.view(48, 9)
    summed = torch.zeros(len(codewords), 9)
    for kernel, index in zip(own, indices, strict=True):
        summed[index] += kernel
    assert own.abs().max() > 0
    assert torch.allclose(moving.codewords.grad, summed, rtol=1e-5, atol=1e-5)


def test_a_kernel_goes_where_its_free_value_has_come():
    free = torch.tensor([[0.0], [1.0], [2.0], [5.1]]).view(4, 1, 1, 1)
    moving = _MovingKernels(torch.tensor([[0.0], [5.0]]), torch.tensor([[0], [0], [1], [1]]))

    moving.reassign(free)

    assert moving.indices.flatten().tolist() == [0, 0, 0, 1]


def test_the_step_quantizes_kernels_and_weights_and_keeps_its_promise(desk, convolutions):
    plain = copy.deepcopy(convolutions)
    step = KernelQuantization(config())

    step.apply(convolutions, desk)
    step.ensure(convolutions)

    assert "0.weight.codewords" in parameter_names(convolutions)
    for place in ("0", "2"):
        value = value_of(convolutions, f"{place}.weight").detach()
        assert len(torch.unique(value.flatten(2).flatten(0, 1), dim=0)) <= 5
        assert not torch.equal(value, value_of(plain, f"{place}.weight"))
    for place in ("4", "6"):
        assert len(torch.unique(value_of(convolutions, f"{place}.weight"))) <= 32
    restored = copy.deepcopy(plain)
    restore(restored, model_state(convolutions))
    x = torch.rand(3, 1, 4, 4)
    assert torch.equal(convolutions(x), restored(x))
    step.ensure(restored)


def test_assignments_follow_the_training_and_settle(desk, convolutions, monkeypatch):
    calls = []
    real = _MovingKernels.reassign

    def watched(self, weight):
        before = self.indices.clone()
        real(self, weight)
        calls.append(int((before != self.indices).sum()))

    monkeypatch.setattr(_MovingKernels, "reassign", watched)
    tune = TUNE | {"epochs": 5, "learning_rate": 0.05}

    KernelQuantization(config(reassign_every=2, settled=0.5, fine_tune=tune)).apply(convolutions, desk)

    assert len(calls) == 2 * 5  # of 20 steps every other one of the first half, in two layers
    assert sum(calls) > 0


def test_the_packed_file_holds_indices_and_codewords_and_restores_every_bit(desk, convolutions):
    KernelQuantization(config()).apply(convolutions, desk)
    x = torch.rand(2, 1, 4, 4)

    made = restructure(convolutions, to_onnx(convolutions, x), coded_tensors(convolutions))
    file = io.BytesIO()
    report = write_weights(file, made.tensors, tiles=True)

    layouts = {record.name: record.layout for record in report.records}
    assert layouts["2.weight"] == "tiles1x9-codebook"
    back = dict(WeightsReader(file.getvalue()).tensors())
    for place in ("0", "2", "4", "6"):
        assert np.array_equal(
            back[f"{place}.weight"], value_of(convolutions, f"{place}.weight").detach().numpy()
        )
    assert sum(made.stands_for.get(t.name, t.values.size) for t in made.tensors) == sum(
        v.size for v in back.values()
    )


def test_a_mask_over_the_whole_weight_ships_without_its_tiles(desk, convolutions):
    KernelQuantization(config()).apply(convolutions, desk)
    mask = torch.ones(6, 8, 3, 3, dtype=torch.bool)
    mask[2] = False
    put(convolutions, "2.weight", PruneMask(mask))
    x = torch.rand(2, 1, 4, 4)

    made = restructure(convolutions, to_onnx(convolutions, x), coded_tensors(convolutions))

    kinds = {type(tensor).__name__: tensor.name for tensor in made.tensors if tensor.values.ndim == 4}
    assert kinds == {"TileCodebookTensor": "0.weight", "CodedTensor": "4.weight"}
    masked = next(t for t in made.tensors if t.name == "2.weight")
    assert np.array_equal(masked.values, value_of(convolutions, "2.weight").detach().numpy())
    assert not masked.values[2].any()


def test_weights_may_be_left_as_they_are(desk, convolutions):
    KernelQuantization(config(layers=("2.*",), bits=None)).apply(convolutions, desk)

    assert len(torch.unique(value_of(convolutions, "6.weight"))) == 256
    assert not isinstance(locate(convolutions, "0.weight")[0], KernelCodebook)


def test_what_has_no_kernels_or_is_constrained_is_named(desk, convolutions):
    with pytest.raises(
        ConstraintError, match=r"'4\.\*' matches no weight with kernels.*0\.weight, 2\.weight"
    ):
        KernelQuantization(config(layers=("4.*",))).apply(convolutions, desk)
    put_mask(convolutions, "2.weight", torch.ones(6, 8, 3, 3, dtype=torch.bool))
    with pytest.raises(ConstraintError, match=r"'2\.weight' is constrained already"):
        KernelQuantization(config()).apply(convolutions, desk)
