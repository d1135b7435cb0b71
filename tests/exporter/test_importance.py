"""Importance statistics, re-derived by loops over samples, classes and map positions with plain autograd."""

import pytest
import torch
from torch import nn

from clearweight.exporter.compress.constraint import put_mask
from clearweight.exporter.importance import STATISTICS, chosen, importance, linear_weights
from clearweight.exporter.training import Samples


def mlp():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).double().eval()


def cnn():
    torch.manual_seed(2)
    body = [nn.Conv2d(1, 3, 2), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(12, 3)]
    return nn.Sequential(*body).double().eval()


def data(n=5):
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(n, 1, 2, 4, generator=generator, dtype=torch.float64)
    return Samples(inputs, torch.randint(0, 3, (n,), generator=generator))


def image_data(n=5):
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(n, 1, 4, 4, generator=generator, dtype=torch.float64)
    return Samples(inputs, torch.randint(0, 3, (n,), generator=generator))


CASES = [(mlp, data), (cnn, image_data)]


def slow(model, samples, kind):
    """The definition: one backward pass per sample and scalar, squared, summed, averaged."""
    model.requires_grad_(True)
    names = [n for n, _ in model.named_parameters()]
    total = dict.fromkeys(names, 0.0)
    for single, y in zip(samples.inputs, samples.labels, strict=True):
        x = single[None].clone().requires_grad_()
        logits = model(x)[0]
        f = logits.softmax(0)
        top = int(logits.argmax())
        if kind in ("fisher", "hessian"):
            scalars = [(float(f[c].detach()), f[c].log()) for c in range(3)]
        elif kind == "gradient":
            scalars = [(1.0, f[y].log())]
        else:
            (slope,) = torch.autograd.grad(logits[top], x, create_graph=True)
            unit = (x.detach() * slope).flatten()
            scalars = [(1.0, value) for value in unit / unit.norm()]
        own = dict.fromkeys(names, 0.0)
        for weight, scalar in scalars:
            found = torch.autograd.grad(
                scalar, [p for _, p in model.named_parameters()], retain_graph=True, allow_unused=True
            )
            for n, g in zip(names, found, strict=True):
                own[n] = own[n] + (0.0 if g is None else weight * g**2)
        for n in names:
            total[n] = total[n] + (own[n] ** 2 if kind == "hessian" else own[n])
    return {n: t / len(samples) for n, t in total.items()}


@pytest.mark.parametrize(("network", "samples"), CASES, ids=["mlp", "cnn"])
@pytest.mark.parametrize("kind", ["fisher", "gradient", "hessian"])
def test_a_statistic_equals_its_definition_sample_by_sample(network, samples, kind):
    model = network()
    expected = slow(network(), samples(), kind)

    found = importance(model, samples(), frozenset({kind}), torch.Generator().manual_seed(0))[kind]

    assert set(found) == set(expected)
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=1e-8, atol=1e-12), name


@pytest.mark.parametrize(("network", "samples"), CASES, ids=["mlp", "cnn"])
def test_attribution_by_random_signs_converges_on_the_sum_over_map_positions(network, samples):
    expected = slow(network(), samples(), "attribution")
    generator = torch.Generator().manual_seed(0)
    drawn = [
        importance(network(), samples(), frozenset({"attribution"}), generator)["attribution"]
        for _ in range(400)
    ]

    for name, exact in expected.items():
        mean = torch.stack([d[name] for d in drawn]).mean(0)
        assert torch.allclose(
            mean, exact + torch.zeros_like(mean), rtol=0.3, atol=0.05 * float(mean.max()) + 1e-12
        ), name


def test_recurrent_weights_are_judged_sample_by_sample_too():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.last = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 3)

        def forward(self, x):
            return self.last(self.gru(x.flatten(1, 2))[0][:, -1])

    torch.manual_seed(0)
    model, samples = Recurrent().double().eval(), Samples(*_series())
    wanted = frozenset({"fisher", "attribution"})
    expected = slow(model, samples, "fisher")

    found = importance(model, samples, wanted, torch.Generator().manual_seed(0))

    for name in expected:
        assert torch.allclose(found["fisher"][name], expected[name], rtol=1e-6, atol=1e-12), name
        assert found["attribution"][name].isfinite().all()


def _series():
    generator = torch.Generator().manual_seed(4)
    return torch.randn(4, 1, 5, 2, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 0])


def test_squaring_the_positions_of_a_convolution_one_by_one_is_another_quantity():
    samples = image_data()
    model = cnn()
    found = importance(model, samples, frozenset({"fisher"}), torch.Generator())["fisher"]["0.weight"]
    wrong = torch.zeros_like(found)
    unfold = nn.Unfold(2)(samples.inputs)
    model.requires_grad_(True)
    seen = []
    model[0].register_forward_hook(lambda _m, _i, out: seen.append(out))
    log_f = model(samples.inputs).log_softmax(1)
    for c in range(3):
        (delta,) = torch.autograd.grad(log_f[:, c].sum(), seen[0], retain_graph=True)
        squares = torch.einsum("nop,nkp->nok", delta.flatten(2) ** 2, unfold**2)
        wrong += (log_f[:, c].exp().detach()[:, None, None] * squares).mean(0).view_as(wrong)

    assert not torch.allclose(found, wrong, rtol=0.05)


def test_the_hessian_of_a_piecewise_linear_network_is_the_second_derivative_of_the_loss():
    """Central differences of the cross-entropy by one weight: E h^2 has h = d^2 L / dw^2 of each sample."""
    model, samples, step = mlp(), data(), 1e-4
    found = importance(model, samples, frozenset({"hessian"}), torch.Generator())["hessian"]["3.weight"]
    weight = model[3].weight
    for place in [(0, 0), (1, 3), (2, 5)]:
        losses = []
        for shift in (-step, 0.0, step):
            with torch.no_grad():
                weight[place] += shift
                losses.append(
                    nn.functional.cross_entropy(model(samples.inputs), samples.labels, reduction="none")
                )
                weight[place] -= shift
        curvature = (losses[0] - 2 * losses[1] + losses[2]) / step**2
        assert float(found[place]) == pytest.approx(float(curvature.square().mean()), rel=1e-3, abs=1e-9)


def test_half_the_fisher_times_the_squared_change_is_the_kl_divergence():
    model, samples = mlp(), data(64)
    found = importance(model, samples, frozenset({"fisher"}), torch.Generator())["fisher"]["1.weight"]
    before = model(samples.inputs).log_softmax(1)
    place, change = divmod(int(found.argmax()), 8), 1e-3
    with torch.no_grad():
        model[1].weight[place] += change
        after = model(samples.inputs).log_softmax(1)
        before = before.detach()
    kl = (before.exp() * (before - after)).sum(1).mean()

    assert float(kl) == pytest.approx(0.5 * change**2 * float(found[place]), rel=0.02)


def test_a_masked_weight_is_judged_by_the_network_without_it():
    model, samples = mlp(), data()
    mask = torch.ones(6, 8, dtype=torch.bool)
    mask[2] = False
    cut = mlp()
    with torch.no_grad():
        cut[1].weight[~mask] = 0
    put_mask(model, "1.weight", mask)

    found = importance(model, samples, frozenset({"fisher"}), torch.Generator())["fisher"]
    expected = importance(cut, samples, frozenset({"fisher"}), torch.Generator())["fisher"]

    assert torch.allclose(found["1.weight"], expected["1.weight"])


def test_one_walk_collects_all_statistics_and_leaves_the_model_alone():
    model, samples = mlp(), data()
    before = {n: p.clone() for n, p in model.named_parameters()}

    found = importance(model, samples, frozenset(STATISTICS), torch.Generator().manual_seed(1))

    assert set(found) == set(STATISTICS)
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in model.named_parameters())


def test_a_weight_used_twice_has_no_fast_path():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.shared(self.shared(x)))

    assert linear_weights(Twice(), torch.zeros(1, 4)) == {"last.weight"}


def test_chosen_draws_without_repetition_and_no_more_than_there_are():
    samples = data(7)

    assert len(chosen(samples, 3, torch.Generator().manual_seed(0))) == 3
    taken = chosen(samples, 99, torch.Generator().manual_seed(0))
    assert sorted(taken.inputs.flatten().tolist()) == sorted(samples.inputs.flatten().tolist())
