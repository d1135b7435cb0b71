"""Entropy-constrained quantization, against plain loops and brute force."""

import copy
import itertools
import math

import numpy as np
import pytest

from clearweight.exporter import ConstraintError
from clearweight.exporter.compress import (
    EntropyConstrained,
    EntropyConstrainedConfig,
    Prune,
    PruneConfig,
    Workbench,
    coded_tensors,
)
from clearweight.exporter.compress.constraint import value_of
from clearweight.exporter.compress.rate_quantizer import (
    code_lengths,
    entropy_bits,
    even_out,
    quantize,
    quantize_to_rate,
)
from clearweight.exporter.compress.share_weights import kmeans_1d, nearest
from clearweight.exporter.training import FineTuning


def lagrangian(weight, importance, codebook, indices, multiplier):
    distortion = sum(i * (w - codebook[q]) ** 2 for w, i, q in zip(weight, importance, indices, strict=True))
    counts = [list(indices).count(q) for q in range(len(codebook))]
    bits = sum(-c * math.log2(c / len(weight)) for c in counts if c)
    return distortion + multiplier * bits


def drawn(n=40, zeros=10, seed=0):
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=n)
    weight[:zeros] = 0.0
    return weight, generator.uniform(0.1, 2.0, size=n)


def test_code_lengths_are_those_of_the_ideal_code():
    assert code_lengths(np.array([4, 2, 1, 1, 0])).tolist() == [1.0, 2.0, 3.0, 3.0, np.inf]


def test_entropy_bits_count_every_symbol():
    assert entropy_bits(np.array([0, 0, 0, 0, 1, 1, 2, 3])) == pytest.approx(14.0)


def slow_rounds(weight, importance, centroids, multiplier, rounds):
    """ECVQ as its paper has it, one weight after the other."""
    book = [0.0, *sorted(centroids)]
    own = [0 if w == 0 else min(range(1, len(book)), key=lambda q: (abs(w - book[q]), q)) for w in weight]
    for _ in range(rounds):
        counts = [own.count(q) for q in range(len(book))]
        keep = [q for q in range(len(book)) if counts[q] or q == 0]
        own = [keep.index(q) for q in own]
        book = [book[q] for q in keep]
        counts = [max(counts[q], 1) for q in keep]
        for q in range(1, len(book)):
            members = [i for i in range(len(weight)) if own[i] == q]
            total = sum(importance[i] for i in members)
            book[q] = sum(importance[i] * weight[i] for i in members) / total
        bits = [-math.log2(c / sum(counts)) for c in counts]
        for i, w in enumerate(weight):
            if w != 0:
                own[i] = min(
                    range(len(book)),
                    key=lambda q: (importance[i] * (w - book[q]) ** 2 + multiplier * bits[q], q),
                )
    return np.array([book[q] for q in own])


@pytest.mark.parametrize("multiplier", [0.0, 0.01, 0.1, 0.5])
def test_quantize_equals_the_textbook_rounds(multiplier):
    weight, importance = drawn()
    start = np.linspace(weight.min(), weight.max(), 7)

    book, indices = quantize(weight, importance, start, multiplier, rounds=6)

    assert np.allclose(book[indices], slow_rounds(weight, importance, start, multiplier, 6))


@pytest.mark.parametrize("multiplier", [0.003, 0.03, 0.3])
def test_more_rounds_never_raise_the_lagrangian(multiplier):
    weight, importance = drawn(300, 100, seed=3)
    start = np.linspace(weight.min(), weight.max(), 15)

    reached = [
        lagrangian(weight, importance, *quantize(weight, importance, start, multiplier, n), multiplier)
        for n in range(1, 12)
    ]

    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(reached))
    assert reached[-1] < reached[0]


def test_no_assignment_of_a_tiny_tensor_does_much_better():
    """Brute force over all assignments of five weights to at most two values and zero."""
    weight = np.array([0.9, 1.1, -1.0, 0.05, 1.0])
    importance = np.array([1.0, 2.0, 1.0, 1.0, 1.0])
    best = math.inf
    for assignment in itertools.product(range(3), repeat=5):
        own = np.array(assignment)
        book = np.zeros(3)
        for q in (1, 2):
            if (own == q).any():
                book[q] = np.average(weight[own == q], weights=importance[own == q])
        best = min(best, lagrangian(weight, importance, book, own, 0.01))

    book, indices = quantize(weight, importance, np.array([-1.0, 1.0]), 0.01)

    assert lagrangian(weight, importance, book, indices, 0.01) == pytest.approx(best)


def test_without_a_price_on_bits_it_is_weighted_k_means():
    weight, importance = drawn(200, 0, seed=5)
    start = np.linspace(weight.min(), weight.max(), 6)

    book, indices = quantize(weight, importance, start, 0.0, rounds=500)
    # Zero is one more value to be near to, so it takes part in k-means as a centre that does not move.
    others = book[1:][:, None]
    distance = np.abs(weight - np.concatenate([[[0.0]], others]))

    assert np.array_equal(distance.argmin(0), indices)
    for q in range(1, len(book)):
        assert book[q] == pytest.approx(np.average(weight[indices == q], weights=importance[indices == q]))


def test_the_quantized_tensor_is_orthogonal_to_its_error_in_the_importance():
    """Rule 1 of Gao et al.: w^' I (w - w^) = 0."""
    weight, importance = drawn(500, 100, seed=7)
    book, indices = quantize(weight, importance, np.linspace(-2, 2, 9), 0.02, rounds=300)
    near = book[indices]

    assert abs((near * importance * (weight - near)).sum()) < 1e-9 * (weight**2 * importance).sum()


def test_a_dear_bit_shortens_the_code_and_prunes():
    weight, importance = drawn(1000, 600, seed=9)
    start = np.linspace(-3, 3, 15)
    free, dear = (quantize(weight, importance, start, m)[1] for m in (0.0, 0.2))

    assert entropy_bits(dear) < 0.5 * entropy_bits(free)
    assert (dear == 0).sum() > (free == 0).sum() + 100


def test_zeros_stay_zero_and_unused_symbols_leave_the_codebook():
    weight, importance = drawn()
    book, indices = quantize(weight, importance, np.linspace(-50, 50, 31), 0.05)

    assert not indices[weight == 0].any()
    assert set(indices) == set(range(len(book)))
    assert book[0] == 0.0


def weighted_lloyd(values, weights, centroids, rounds):
    now = sorted(centroids)
    for _ in range(rounds):
        clusters = [[] for _ in now]
        for v, w in zip(values, weights, strict=True):
            clusters[min(range(len(now)), key=lambda j: (abs(v - now[j]), -j))].append((v, w))
        now = sorted(
            sum(v * w for v, w in c) / sum(w for _, w in c) if c else now[j] for j, c in enumerate(clusters)
        )
    return np.array(now)


def test_weighted_k_means_equals_the_textbook_loop_and_leans_to_heavy_values():
    values, weights = drawn(60, 0, seed=11)
    start = np.linspace(values.min(), values.max(), 4)
    centroids = kmeans_1d(values, start, 100, weights)

    assert np.allclose(weighted_lloyd(values, weights, start, 200), centroids)
    plain = kmeans_1d(values, start, 100)

    def distortion(book):
        return float((weights * (values - book[nearest(values, book)]) ** 2).sum())

    assert distortion(centroids) < distortion(plain)


def test_one_multiplier_spends_bits_where_they_are_worth_more():
    weight, importance = drawn(400, 0, seed=13)
    both = {"dear": weight, "cheap": weight.copy()}

    importances = {"dear": 100 * importance, "cheap": importance}
    found, _ = quantize_to_rate(both, importances, 15, 1.5)
    bits = {name: entropy_bits(q.indices) / 400 for name, q in found.items()}

    assert bits["dear"] > bits["cheap"] + 1
    assert 1.4 < (bits["dear"] + bits["cheap"]) / 2 <= 1.5


@pytest.mark.parametrize("kind", ["equal", "fisher", "attribution", "output_and_attribution"])
def test_the_step_keeps_its_rate_and_the_zeros_that_pruning_left(bench: Workbench, tiny_model, kind):
    Prune(PruneConfig(density=0.5, schedule="one_shot", fine_tune={"epochs": 1, "batch_size": 32})).apply(
        tiny_model, bench
    )
    pruned = {n: value_of(tiny_model, n).detach().clone() for n in ("1.weight", "3.weight")}
    config = EntropyConstrainedConfig(
        bits_per_weight=1.2, symbols=7, importance=kind, statistic_samples=32, fine_tune=None
    )
    step = EntropyConstrained(config)

    step.apply(tiny_model, bench)
    step.ensure(tiny_model)

    coded = {t.name: t for t in coded_tensors(tiny_model)}
    for name, value in pruned.items():
        assert not value_of(tiny_model, name)[value == 0].any()
        assert len(coded[name].codebook) <= 8


def test_fine_tuning_moves_the_values_and_no_index(bench: Workbench, tiny_model):
    config = EntropyConstrainedConfig(bits_per_weight=1.5, symbols=7, statistic_samples=32)
    other = copy.deepcopy(tiny_model)
    EntropyConstrained(config).apply(tiny_model, bench)
    EntropyConstrained(config.model_copy(update={"fine_tune": FineTuning(epochs=1, batch_size=32)})).apply(
        other, bench
    )

    for still, moved in zip(coded_tensors(tiny_model), coded_tensors(other), strict=True):
        if still.codebook is not None:
            assert np.array_equal(still.indices, moved.indices)
            assert not np.array_equal(still.codebook, moved.codebook)
            assert moved.codebook[0] == 0.0


def test_ensure_notices_a_missing_codebook_and_too_many_bits(bench: Workbench, tiny_model):
    config = EntropyConstrainedConfig(bits_per_weight=2.0, statistic_samples=32)
    with pytest.raises(ConstraintError, match=r"1\.weight"):
        EntropyConstrained(config).ensure(tiny_model)
    EntropyConstrained(config).apply(tiny_model, bench)
    with pytest.raises(ConstraintError, match="bits per weight, expected at most 1"):
        EntropyConstrained(config.model_copy(update={"bits_per_weight": 1.0})).ensure(tiny_model)


def test_a_pattern_that_matches_nothing_names_the_weights(bench: Workbench, tiny_model):
    step = EntropyConstrained(EntropyConstrainedConfig(bits_per_weight=1.0, weights=("conv*",)))

    with pytest.raises(ConstraintError, match=r"conv.*1\.weight, 3\.weight"):
        step.apply(tiny_model, bench)


def test_a_stage_holds_zeros_and_the_largest_values_while_the_others_train(bench: Workbench, tiny_model):
    config = EntropyConstrainedConfig(
        bits_per_weight=1.5,
        symbols=7,
        statistic_samples=32,
        stages=(0.5,),
        stage_tune=FineTuning(epochs=2, batch_size=32),
    )
    step = EntropyConstrained(config)
    before, *_ = step._quantized(tiny_model, bench)
    first = {n: value_of(tiny_model, n).detach().clone() for n in before}

    step._stage(tiny_model, bench, 0.5)

    for name, quantized in before.items():
        aim = quantized.codebook[quantized.indices].astype(np.float32)
        now = value_of(tiny_model, name).detach().numpy().ravel()
        same = now == aim
        alive = aim != 0
        assert same[~alive].all()
        assert same[alive].sum() == pytest.approx(0.5 * alive.sum(), abs=1)
        size = first[name].abs().numpy().ravel()
        assert size[alive & same].min() >= size[alive & ~same].max()
    step.apply(tiny_model, bench)
    step.ensure(tiny_model)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stages": (0.5,)}, "belong together"),
        ({"stages": (0.7, 0.2), "stage_tune": {"epochs": 1}}, "must rise"),
    ],
)
def test_stages_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        EntropyConstrainedConfig(bits_per_weight=1.0, **wrong)


def test_importance_can_be_evened_out_within_a_tensor_but_not_between_tensors(bench: Workbench, tiny_model):
    def bits(evened):
        model = copy.deepcopy(tiny_model)
        EntropyConstrained(EntropyConstrainedConfig(bits_per_weight=1.5, evened=evened)).apply(model, bench)
        return {t.name: entropy_bits(t.indices) for t in coded_tensors(model) if t.codebook is not None}

    found = np.array([0.0, 1.0, 5.0])

    assert even_out(found, 0.0).tolist() == [0.0, 1.0, 5.0]
    assert even_out(found, 0.5).tolist() == [1.0, 1.5, 3.5]
    assert even_out(found, 1.0).tolist() == [2.0, 2.0, 2.0]
    assert bits(0.0) != bits(1.0)
