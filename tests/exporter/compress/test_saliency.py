"""Criteria of pruning, each from its formula and from what dropping a weight really costs."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter.compress import Workbench
from clearweight.exporter.compress.constraint import free_value, put_mask
from clearweight.exporter.compress.saliency import RULES, Criterion, FirstOrderSaliency, SecondOrderSaliency
from clearweight.exporter.importance import STATISTICS
from clearweight.exporter.objective.attribution_matching import direction_distance


def test_the_table_of_rules_and_the_names_of_a_recipe_are_one():
    assert {*RULES, "first_order"} == set(get_args(Criterion))


def test_first_order_saliency_is_the_running_mean_of_the_squared_weight_times_gradient():
    layer = nn.Linear(3, 2, bias=False)
    put_mask(layer, "weight", torch.ones(2, 3, dtype=torch.bool))
    saliency = FirstOrderSaliency(layer, ["weight"], decay=0.9)
    expected = np.zeros((2, 3))
    for seed in range(4):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        layer.zero_grad()
        loss = layer(x).square().sum()
        loss.backward()
        w = free_value(layer, "weight").detach().double().numpy()
        # d/dW sum (x W')^2 = 2 (x W')' x, by hand.
        by_hand = 2 * (x.double().numpy() @ w.T).T @ x.double().numpy()
        expected = 0.9 * expected + 0.1 * (w * by_hand) ** 2
        saliency.update()

    assert np.allclose(expected, saliency.values()["weight"].numpy(), rtol=1e-4)


@pytest.mark.parametrize(
    ("criterion", "formula"),
    [
        ("magnitude", lambda w, s: abs(w)),
        ("gradient", lambda w, s: w**2 * s["gradient"]),
        ("gradient_hessian", lambda w, s: w**2 * s["gradient"] + w**4 * s["hessian"] / 4),
        ("fisher", lambda w, s: 0.5 * w**2 * s["fisher"]),
        ("attribution", lambda w, s: w**2 * s["attribution"]),
        ("output_and_attribution", lambda w, s: w**2 * (0.5 * s["fisher"] + 3.0 * s["attribution"])),
    ],
)
def test_a_rule_is_its_formula(criterion, formula):
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(4, 5, generator=generator)
    by = {kind: torch.rand(4, 5, generator=generator) for kind in STATISTICS}

    found = RULES[criterion].formula(w, {k: by[k] for k in RULES[criterion].needs}, 3.0)

    assert np.allclose(formula(w.numpy(), {k: v.numpy() for k, v in by.items()}), found.numpy(), rtol=1e-5)


def maps(model, x, classes):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).gather(1, classes[:, None]).sum(), x)
    return x.detach() * slope


def test_the_combined_criterion_predicts_what_shrinking_a_weight_costs_answer_and_map(
    bench: Workbench, tiny_model
):
    """Small changes, so that second order holds: KL(p || p') + share * |m - m'|^2 for w' = w (1 - e)."""
    share, shrink = 2.0, 0.02
    everything = len(bench.samples)
    saliency = SecondOrderSaliency(
        tiny_model, ["3.weight"], RULES["output_and_attribution"], share, count=everything, bench=bench
    )
    predicted = torch.zeros(4, 12)
    for _ in range(30):
        saliency.measure()
        predicted += saliency.values()["3.weight"] / 30
    x = bench.samples.inputs
    before = tiny_model(x).log_softmax(1).detach()
    classes = before.argmax(1)
    aim = maps(tiny_model, x, classes)
    weight = tiny_model[3].weight
    for place in [divmod(i, 12) for i in predicted.flatten().argsort(descending=True)[:6].tolist()]:
        with torch.no_grad():
            kept = weight[place].clone()
            weight[place] *= 1 - shrink
        after = tiny_model(x).log_softmax(1).detach()
        answer = float((before.exp() * (before - after)).sum(1).mean())
        explanation = float(direction_distance(maps(tiny_model, x, classes), aim))
        with torch.no_grad():
            weight[place] = kept
        assert answer + share * explanation == pytest.approx(shrink**2 * float(predicted[place]), rel=0.15)
