"""Weight sharing, checked against brute force and against the definition of the centroid gradient."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter import ConstraintError
from clearweight.exporter.compress import ShareWeights, ShareWeightsConfig, coded_tensors
from clearweight.exporter.compress.constraint import constraints_of, put_codebook, put_mask, value_of
from clearweight.exporter.compress.share_weights import initial_centroids, kmeans_1d, nearest, share


def slow_lloyd(values, centroids, rounds):
    """k-means written as the textbook has it."""
    now = sorted(centroids)
    for _ in range(rounds):
        clusters = [[] for _ in now]
        for v in values:
            clusters[min(range(len(now)), key=lambda j: (abs(v - now[j]), -j))].append(v)
        now = sorted(sum(c) / len(c) if c else now[j] for j, c in enumerate(clusters))
    return np.array(now)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_kmeans_equals_the_textbook_loop(k):
    values = np.random.default_rng(k).normal(size=60)
    start = initial_centroids(values, k, "linear")

    assert np.allclose(slow_lloyd(values, start, 200), kmeans_1d(values, start, 200))


def test_kmeans_on_few_points_reaches_the_best_of_all_splits():
    values = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 9.0])
    best = min(
        sum(((part - part.mean()) ** 2).sum() for part in np.split(values, list(cut)))
        for cut in itertools.combinations(range(1, 6), 2)
    )

    centroids = kmeans_1d(values, initial_centroids(values, 3, "linear"), 100)
    distortion = ((values - centroids[nearest(values, centroids)]) ** 2).sum()

    assert distortion == pytest.approx(best)


def test_linear_initialisation_spaces_evenly_and_keeps_the_extremes():
    values = np.array([-1.0, 0.0, 0.0, 0.0, 3.0])

    assert initial_centroids(values, 5, "linear").tolist() == [-1.0, 0.0, 1.0, 2.0, 3.0]


def test_an_empty_cluster_keeps_its_centroid():
    assert kmeans_1d(np.array([0.0, 0.1]), np.array([0.0, 50.0, 100.0]), 10).tolist() == [0.05, 50.0, 100.0]


def test_share_keeps_zeros_zero_and_drops_unused_centroids():
    weight = np.array([[0.0, 1.0, 1.1], [0.0, 9.0, 0.0]], dtype=np.float32)

    centroids, indices = share(weight, 4, "linear", 100)

    assert (indices == 0).tolist() == (weight == 0).tolist()
    assert set(indices.flatten()) == set(range(len(centroids) + 1))


def test_a_tensor_of_zeros_can_be_shared():
    centroids, indices = share(np.zeros((2, 2), dtype=np.float32), 3, "linear", 10)

    assert len(centroids) == 1
    assert not indices.any()


def test_centroid_gradient_is_the_sum_over_its_members():
    torch.manual_seed(0)
    layer = nn.Linear(4, 3, bias=False)
    indices = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1], [1, 0, 0, 2]])
    put_codebook(layer, "weight", torch.tensor([0.5, -0.25]), indices)
    x = torch.randn(6, 4)
    layer(x).square().sum().backward()
    codebook = next(iter(constraints_of(layer, "weight")))
    w = value_of(layer, "weight").detach()
    dense = 2 * (x @ w.T).T @ x

    for j, centroid_gradient in enumerate(codebook.centroids.grad, start=1):
        assert float(dense[indices == j].sum()) == pytest.approx(float(centroid_gradient), rel=1e-5)


def test_codes_rebuild_the_values_bit_for_bit_and_respect_the_mask(bench, tiny_model):
    mask = torch.rand(12, 16, generator=torch.Generator().manual_seed(1)) < 0.3
    put_mask(tiny_model, "1.weight", mask)
    step = ShareWeights(ShareWeightsConfig(bits=3, fine_tune={"epochs": 1, "batch_size": 32}))

    step.apply(tiny_model, bench)
    step.ensure(tiny_model)

    coded = {t.name: t for t in coded_tensors(tiny_model)}
    assert list(coded) == ["1.weight", "1.bias", "3.weight", "3.bias"]
    tensor = coded["1.weight"]
    assert np.array_equal(tensor.codebook[tensor.indices], tensor.values)
    assert ((tensor.values == 0) == ~mask.numpy()).all()
    assert len(tensor.codebook) <= 8
    assert coded["1.bias"].codebook is None


def test_fine_tuning_moves_centroids_and_nothing_underneath(bench, tiny_model):
    before = value_of(tiny_model, "1.weight").detach().clone()
    config = ShareWeightsConfig(bits=2, fine_tune={"epochs": 2, "batch_size": 32, "learning_rate": 0.01})
    untrained, _ = share(before.numpy(), 2, "linear", 100)

    ShareWeights(config).apply(tiny_model, bench)

    book = next(c for c in constraints_of(tiny_model, "1.weight"))
    assert not np.allclose(untrained, book.centroids.detach().numpy(), atol=1e-4)
    assert torch.equal(tiny_model[1].parametrizations.weight.original, before)


def test_pruning_after_sharing_is_refused(bench, tiny_model):
    ShareWeights(ShareWeightsConfig(bits=2)).apply(tiny_model, bench)

    with pytest.raises(ConstraintError, match="prune before sharing"):
        put_mask(tiny_model, "1.weight", torch.ones(12, 16, dtype=torch.bool))


@pytest.mark.parametrize(
    ("centroids", "indices", "text"),
    [
        (torch.zeros(256), torch.zeros(12, 16), "256 centroids"),
        (torch.zeros(3), torch.zeros(12, 15), "shape"),
        (torch.zeros(3), torch.full((12, 16), 4), "run to 4"),
    ],
)
def test_a_code_that_cannot_be_is_refused(tiny_model, centroids, indices, text):
    with pytest.raises(ConstraintError, match=text):
        put_codebook(tiny_model, "1.weight", centroids, indices.long())
