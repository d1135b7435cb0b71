"""Every node in the way is listed: where the list is empty the gradient can be built, and nowhere else."""

import pytest

from clearweight.exporter.autodiff import AutodiffError, OpKey
from clearweight.exporter.explain import ExplainError, build, obstacles
from tests.cli import onnx_files


def listed(model):
    return [(entry.node, entry.operator) for entry in obstacles.obstacles(model)]


@pytest.mark.parametrize("made", [onnx_files.model, onnx_files.recurrent, onnx_files.stopped])
def test_the_list_is_empty_exactly_where_the_gradient_can_be_built(made):
    model = made()
    try:
        build(model, "gradient")
    except (AutodiffError, ExplainError):
        builds = False
    else:
        builds = True

    assert (listed(model) == []) is builds


def test_on_every_small_network_nothing_is_in_the_way(network):
    assert listed(network.model) == []


def test_nodes_behind_the_first_one_are_found_too(named, monkeypatch):
    without = {
        key: rule
        for key, rule in obstacles.RULES.items()
        if key.op_type not in {"Relu", "MaxPool", "LeakyRelu"}
    }
    monkeypatch.setattr(obstacles, "RULES", without)

    found = listed(named("cnn").model)

    assert [operator.partition("-")[0] for _, operator in found] == ["Relu", "MaxPool", "LeakyRelu"]


def test_a_rule_that_refuses_a_use_is_noted_with_its_reason_and_the_walk_goes_on(named, monkeypatch):
    def refuse(emit, node, dy):
        emit.unsupported(node, "it is Tuesday")

    refusing = {
        key: refuse if key.op_type in {"Relu", "LeakyRelu"} else rule for key, rule in obstacles.RULES.items()
    }
    monkeypatch.setattr(obstacles, "RULES", refusing)

    found = obstacles.obstacles(named("cnn").model)

    assert [entry.operator.partition("-")[0] for entry in found] == ["Relu", "LeakyRelu"]
    assert all("it is Tuesday" in entry.reason for entry in found)


def test_by_name_alone_a_model_of_any_opset_is_read():
    model = onnx_files.custom()
    model.opset_import[0].version = 9

    assert [(entry.node, entry.operator) for entry in obstacles.without_rule(model)] == [
        ("bend", "my.ops::Bend")
    ]
    assert obstacles.without_rule(onnx_files.model(opset=9)) == []


def test_the_noting_rules_stand_in_for_every_operator():
    rules = obstacles._Noting({})

    assert OpKey("my.ops", "Bend", 1) in rules
    assert set(rules) == set(obstacles.RULES)
    assert len(rules) == len(obstacles.RULES)
