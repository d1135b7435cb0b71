"""Closed-form refit: repairs what pruning broke, respects masks, and refuses what it cannot solve."""

import copy

import pytest
import torch
from torch import nn

from clearweight.exporter import ConstraintError
from clearweight.exporter.compress import ClosedFormRefit, ClosedFormRefitConfig, Workbench
from clearweight.exporter.compress.closed_form_refit import decision_layer, features_of
from clearweight.exporter.compress.constraint import put_codebook, put_mask, value_of


def distance(model, bench):
    with torch.no_grad():
        return float(
            (model(bench.samples.inputs) - bench.objective.reference(bench.samples.inputs)).square().mean()
        )


def test_refit_undoes_damage_of_the_last_layer_alone(bench: Workbench, tiny_model):
    before = copy.deepcopy(tiny_model)
    with torch.no_grad():
        tiny_model[3].weight.mul_(0.3).add_(0.1)
        tiny_model[3].bias.add_(1.0)

    step = ClosedFormRefit(ClosedFormRefitConfig(gamma=1e-8))
    step.apply(tiny_model, bench)
    step.ensure(tiny_model)

    inputs = bench.samples.inputs
    assert torch.allclose(before(inputs), tiny_model(inputs), atol=1e-3)


def test_refit_is_the_least_distance_to_the_references_logits_under_the_mask(bench: Workbench, tiny_model):
    with torch.no_grad():
        tiny_model[1].weight.mul_((tiny_model[1].weight.abs() > 0.12).float())
    mask = torch.rand(4, 12, generator=torch.Generator().manual_seed(0)) > 0.4
    put_mask(tiny_model, "3.weight", mask)
    broken = distance(tiny_model, bench)

    ClosedFormRefit(ClosedFormRefitConfig(gamma=1e-8)).apply(tiny_model, bench)
    repaired = distance(tiny_model, bench)

    assert repaired < 0.5 * broken
    assert not value_of(tiny_model, "3.weight")[~mask].any()
    generator = torch.Generator().manual_seed(1)
    solution = value_of(tiny_model, "3.weight").detach().clone()
    for _ in range(20):
        with torch.no_grad():
            tiny_model[3].parametrizations.weight.original.copy_(
                solution + 0.01 * torch.randn(4, 12, generator=generator)
            )
        assert distance(tiny_model, bench) > repaired


def test_features_are_what_the_layer_is_given(tiny_model):
    inputs = torch.rand(7, 1, 4, 4)

    given = features_of(tiny_model, tiny_model[3], inputs)

    assert torch.equal(given, torch.relu(tiny_model[1](inputs.flatten(1))))


def test_the_last_linear_layer_is_the_decision_layer_unless_named(tiny_model):
    assert decision_layer(tiny_model, None)[0] == "3"
    assert decision_layer(tiny_model, "1")[0] == "1"


@pytest.mark.parametrize("layer", ["2", "head"])
def test_a_name_that_is_no_linear_layer_is_refused_with_those_there_are(tiny_model, layer):
    with pytest.raises(ConstraintError, match=rf"'{layer}'.*1, 3"):
        decision_layer(tiny_model, layer)


def test_a_network_without_a_linear_layer_is_refused():
    with pytest.raises(ConstraintError, match="none"):
        decision_layer(nn.Sequential(nn.Conv2d(1, 2, 1)), None)


def test_a_layer_with_a_codebook_is_refused(bench: Workbench, tiny_model):
    put_codebook(tiny_model, "3.weight", torch.tensor([0.1]), torch.ones(4, 12, dtype=torch.long))

    with pytest.raises(ConstraintError, match="Refit before sharing"):
        ClosedFormRefit(ClosedFormRefitConfig()).apply(tiny_model, bench)
