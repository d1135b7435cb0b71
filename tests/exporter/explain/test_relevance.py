import copy

import captum.attr
import numpy as np
import onnx
import pytest
import torch
from captum.attr._utils.lrp_rules import EpsilonRule

from clearweight.exporter.explain import NotApplicableError, build
from tests.exporter.explain.perturbing import inputs_of, predict, run
from tests.exporter.explain.zennit_rules import attributed, zennit

METHODS = ("lrp_epsilon", "lrp_zplus", "lrp_composite")


def explained(network, method, x, target, **settings):
    graph = build(network.model, method, settings=settings)
    return run(graph, inputs_of(graph, x, target))["explain"]


def toward(z):
    return np.where(z < 0, -1e-6, 1e-6)


def slow_layer(a, w, b, r, rule):
    """One dense layer, one connection at a time: w (out, in)."""
    found = np.zeros(len(a))
    for j in range(len(r)):
        parts = np.array([a[i] * w[j, i] for i in range(len(a))])
        bias = b[j]
        if rule == "flat":
            parts, bias = np.ones(len(a)), 0.0
        elif rule == "zplus":
            parts, bias = np.maximum(parts, 0), max(b[j], 0.0)
        z = parts.sum() + bias
        found += parts / (z + toward(z)) * r[j]
    return found


@pytest.mark.parametrize(
    ("method", "rules"),
    [
        ("lrp_epsilon", ("epsilon", "epsilon")),
        ("lrp_zplus", ("zplus", "zplus")),
        ("lrp_composite", ("flat", "epsilon")),
    ],
)
def test_it_is_the_papers_rules_connection_by_connection(named, method, rules):
    network = named("mlp")
    x = network.samples(5)
    target = np.array([0, 1, 2, 3, 4])
    w1, b1, w2, b2 = (p.double().numpy() for p in network.module.parameters())
    expected = []
    for row, c in zip(x.reshape(5, -1).astype(np.float64), target, strict=True):
        hidden = np.maximum(w1 @ row + b1, 0)
        logits = w2 @ hidden + b2
        r = slow_layer(hidden, w2, b2, logits * (np.arange(5) == c), rules[1])
        expected.append(slow_layer(row, w1, b1, r, rules[0]).reshape(1, 4, 4))

    np.testing.assert_allclose(explained(network, method, x, target), expected, rtol=1e-3, atol=1e-5)


def composite(method):
    def made(zennit):
        rules, kinds = zennit.rules, zennit.types
        base = [(kinds.Activation, rules.Pass()), (kinds.AvgPool, rules.Norm())]
        if method == "lrp_epsilon":
            return zennit.composites.LayerMapComposite([*base, (kinds.Linear, rules.Epsilon(1e-6))])
        if method == "lrp_zplus":
            return zennit.composites.LayerMapComposite([*base, (kinds.Linear, rules.ZPlus())])
        return zennit.composites.EpsilonPlusFlat()

    return made


@zennit
@pytest.mark.parametrize("name", ["plain", "unbiased"])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_zennits_started_with_the_logit(named, name, method):
    network = named(name)
    x, target = network.samples(4), np.array([0, 1, 2, 0])
    start = np.eye(3)[target] * predict(network.model, x)
    expected = attributed(network.module, x, start, composite(method))

    np.testing.assert_allclose(
        explained(network, method, x, target), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
    )


def test_epsilon_is_captums(named):
    network = named("plain")
    module = copy.deepcopy(network.module)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear | torch.nn.MaxPool2d | torch.nn.AvgPool2d):
            layer.rule = EpsilonRule(epsilon=1e-6)
    x, target = network.samples(4), torch.tensor([0, 1, 2, 0])
    expected = captum.attr.LRP(module).attribute(torch.tensor(x, requires_grad=True), target=target)
    expected = expected.detach().numpy()

    np.testing.assert_allclose(
        explained(network, "lrp_epsilon", x, target.numpy()),
        expected,
        rtol=1e-3,
        atol=1e-4 * np.abs(expected).max(),
    )


@pytest.mark.parametrize("method", METHODS)
def test_relevance_is_conserved_without_biases(named, method):
    network = named("unbiased")
    x = network.samples(6)
    target = np.arange(6) % 3
    total = explained(network, method, x, target).reshape(6, -1).sum(1)

    np.testing.assert_allclose(total, predict(network.model, x)[np.arange(6), target], rtol=1e-2, atol=1e-4)


def test_without_epsilon_to_speak_of_it_is_input_times_gradient_on_a_rectified_network(named):
    """LRP-0 of a network of ReLUs (Ancona et al. 2018, section 3): another road to the same numbers."""
    network = named("plain")
    x, target = network.samples(4), np.array([0, 1, 2, 0])

    np.testing.assert_allclose(
        explained(network, "lrp_epsilon", x, target, epsilon=1e-9),
        x * network.gradient(x, target),
        rtol=1e-3,
        atol=1e-5,
    )


def test_more_epsilon_damps_the_map(named):
    network = named("plain")
    x = network.samples(2)
    sizes = [np.abs(explained(network, "lrp_epsilon", x, [0, 1], epsilon=e)).sum() for e in (1e-6, 0.1, 10)]

    assert sizes[0] > sizes[1] > sizes[2]


def test_every_element_of_zplus_has_the_logits_sign(named):
    network = named("plain")
    x = np.abs(network.samples(4))
    target = np.array([0, 1, 2, 1])
    sign = np.sign(predict(network.model, x)[np.arange(4), target]).reshape(-1, 1, 1, 1)

    assert (explained(network, "lrp_zplus", x, target) * sign >= 0).all()


def test_a_shortcut_splits_relevance_as_the_summands_add_up(named):
    """Residual network without biases: Add hands on what it gets, so nothing is lost."""
    network = named("residual")
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 1:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
    graph = build(model, "lrp_epsilon")
    x = network.samples(4)
    got = run(graph, inputs_of(graph, x, [0, 1, 2, 3]))

    np.testing.assert_allclose(
        got["explain"].reshape(4, -1).sum(1), got["logits"][range(4), range(4)], rtol=1e-2, atol=1e-4
    )


def classifier(*nodes, parameters=()):
    helper = onnx.helper
    x = helper.make_tensor_value_info("input", 1, ["N", 4])
    y = helper.make_tensor_value_info("logits", 1, ["N", 4])
    graph = helper.make_graph(list(nodes), "g", [x], [y], list(parameters))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("method", METHODS)
def test_an_operator_without_a_rule_is_named(method):
    node = onnx.helper.make_node("Softmax", ["input"], ["logits"], name="soft", axis=1)
    with pytest.raises(NotApplicableError, match=r"Softmax-13.*soft"):
        build(classifier(node), method)


@pytest.mark.parametrize("method", METHODS)
def test_a_product_of_two_values_is_refused_and_named(method):
    node = onnx.helper.make_node("Mul", ["input", "input"], ["logits"], name="gate")
    with pytest.raises(NotApplicableError, match="gate"):
        build(classifier(node), method)


def test_a_denominator_of_zero_counts_as_positive():
    """Two inputs that cancel: z = 0, so each gets a R / epsilon, not the negative of it."""
    w = onnx.numpy_helper.from_array(
        np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0] * 4, [0] * 4], np.float32), "w"
    )
    b = onnx.numpy_helper.from_array(np.array([1, 0, 0, 0], np.float32), "b")
    model = classifier(
        onnx.helper.make_node("MatMul", ["input", "w"], ["h"]),
        onnx.helper.make_node("Add", ["h", "b"], ["logits"]),
        parameters=[w, b],
    )
    graph = build(model, "lrp_epsilon", settings={"epsilon": 0.5})
    x = np.array([[2, -2, 0, 0]], np.float32)
    found = run(graph, inputs_of(graph, x, [0]))["explain"]

    # The Add hands h / (h + b) of the logit 1 to h = 0: nothing is left to divide, whatever the sign.
    np.testing.assert_allclose(found, 0)
    x[0, 1] = -3
    # h = -1: the logit is 0, and nothing comes down either.
    np.testing.assert_allclose(run(graph, inputs_of(graph, x, [0]))["explain"], 0, atol=1e-6)


@pytest.mark.parametrize("epsilon", [0, -1])
def test_an_epsilon_of_nothing_is_refused(named, epsilon):
    with pytest.raises(NotApplicableError, match="above 0"):
        build(named("mlp").model, "lrp_epsilon", settings={"epsilon": epsilon})
