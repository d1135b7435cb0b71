from dataclasses import replace

import numpy as np
import onnx
import pytest

from clearweight.exporter.explain import EXPLAINERS, NotApplicableError, VerificationError, build, verify
from clearweight.exporter.explain.agreement import agreement, frozen_map, is_affine
from clearweight.exporter.explain.difference import CHANNEL_WEIGHTS, WEIGHTED_POINTS, difference_error
from clearweight.exporter.oracle import oracle
from tests.exporter.explain.networks import MODULES

# Float64 evaluation of many rows takes a second each: the larger networks' many-row methods run in the slow suite.
MANY_ROWS = ("linearization", "integrated_gradients", "smoothgrad", "vargrad")
CASES = [
    pytest.param(name, method, marks=[pytest.mark.slow] if name == "residual" and method in MANY_ROWS else [])
    for name in MODULES
    for method in EXPLAINERS
]


def oracle_of(network, graph):
    return oracle(network.module, graph, network.model)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_what_was_built_is_right(named, name, method):
    network = named(name)
    try:
        graph = build(network.model, method)
    except NotApplicableError:
        feature_level = EXPLAINERS[method].resolution == "feature" and name in {"mlp", "affine"}
        bent = method in {"deconvnet", "guided_backprop"} and name in {"affine", "smooth"}
        assert feature_level or bent or (name, method) == ("smooth", "linearization")
        return
    found = verify(graph, network.model, network.samples(3), oracle_of(network, graph))

    assert found.samples == 3
    assert found.targets == 2
    assert found.cosine_to_float64 > 0.999999
    assert found.q999_error_over_max < 1e-5
    assert found.cosine_to_torch is None or found.cosine_to_torch > 0.999999
    assert (found.completeness_error_max is None) == (not graph.completeness)
    constant = name == "affine" and method in {
        "gradient",
        "input_x_gradient",
        "linearization",
        "smoothgrad",
        "vargrad",
    }
    without_switches = method == "deconvnet" and name in {"mlp", "residual"}
    assert found.frozen_map == ("constant_gradient" if constant or without_switches else "passed")


def spoilt(graph, change):
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    change(model)
    return replace(graph, model=model)


def freeze(maps):
    """Let a graph return the same map for every input and target, as a traced gradient does."""

    def change(model):
        for node in model.graph.node:
            for index, name in enumerate(node.output):
                if name == "explain":
                    node.output[index] = "live"
        frozen = onnx.numpy_helper.from_array(maps[:1], "frozen")
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["frozen"], value=frozen))
        zero = onnx.numpy_helper.from_array(np.zeros((), np.float32), "nothing")
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["nothing"], value=zero))
        model.graph.node.append(onnx.helper.make_node("Mul", ["live", "nothing"], ["empty"]))
        model.graph.node.append(onnx.helper.make_node("Add", ["empty", "frozen"], ["explain"]))

    return change


@pytest.mark.parametrize("with_oracle", [True, False])
def test_a_frozen_map_is_found(named, with_oracle):
    network = named("cnn")
    x = network.samples(3)
    graph = spoilt(build(network.model, "gradient"), freeze(network.gradient(x, np.full(3, -1))))
    with pytest.raises(VerificationError):
        verify(graph, network.model, x, oracle_of(network, graph) if with_oracle else None)


@pytest.mark.parametrize(
    "method", ["guided_backprop", "lrp_epsilon", "ewa", "gradcam_plus_plus", "vargrad", "rise"]
)
def test_a_frozen_map_is_found_without_oracle_or_finite_differences(named, method):
    """Its float64 twin is frozen as well: that the network bends while the map stands still gives it away."""
    network = named("cnn")
    x = network.samples(3)
    graph = build(network.model, method)
    shape = (1, *graph.map_shape[1:])
    still = np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)
    with pytest.raises(VerificationError):
        verify(spoilt(graph, freeze(still)), network.model, x, None)


def double_the_map(model):
    position = next(at for at, node in enumerate(model.graph.node) if "explain" in node.output)
    model.graph.node[position].output[0] = "half"
    model.graph.node.insert(position + 1, onnx.helper.make_node("Add", ["half", "half"], ["explain"]))


@pytest.mark.parametrize("method", [*WEIGHTED_POINTS, *CHANNEL_WEIGHTS])
def test_a_map_of_the_wrong_size_is_found_by_finite_differences(named, method):
    network = named("cnn")
    graph = spoilt(build(network.model, method), double_the_map)
    with pytest.raises(VerificationError, match="finite differences"):
        verify(graph, network.model, network.samples(3), None)


def test_a_wrong_gradient_is_found_by_the_oracle(named):
    network = named("cnn")
    graph = build(network.model, "gradient")
    with pytest.raises(VerificationError, match="the oracle"):
        verify(graph, network.model, network.samples(3), lambda x, target, _: -network.gradient(x, target))


def test_a_bias_that_does_not_fit_is_found(named):
    network = named("cnn")

    def change(model):
        for node in model.graph.node:
            if node.op_type == "Neg":
                node.op_type = "Identity"

    with pytest.raises(VerificationError, match="misses the logit"):
        verify(
            spoilt(build(network.model, "input_x_gradient"), change), network.model, network.samples(3), None
        )


def test_one_sample_cannot_show_a_frozen_map(named):
    network = named("mlp")
    with pytest.raises(ValueError, match="two or more"):
        verify(build(network.model, "gradient"), network.model, network.samples(1), None)


def test_equal_pixels_are_no_obstacle(named):
    """Blank images: every pooling window is a tie, where finite differences see a kink."""
    network = named("cnn")
    x = np.zeros((3, *network.module.shape), np.float32)
    x[1:, :, 3:6, 4:8] = 1
    x[2] *= 0.5
    graph = build(network.model, "gradient")
    found = verify(graph, network.model, x, oracle_of(network, graph))

    assert found.cosine_to_torch > 0.999999


def test_agreement_keeps_the_worst_map():
    aim = np.ones((1, 2, 4))
    own = aim.copy()
    own[0, 1] = [1, 1, 1, -1]

    assert agreement(own, aim).cosine == pytest.approx(0.5)
    assert agreement(own, aim).q999_error_over_max == pytest.approx(2, rel=0.01)
    assert agreement(aim, aim).cosine == pytest.approx(1)


def test_empty_maps_agree_with_each_other_only():
    empty, full = np.zeros((1, 1, 4)), np.ones((1, 1, 4))

    assert agreement(empty, empty).cosine == 1
    assert agreement(empty, full).cosine == 0
    assert agreement(np.full((1, 1, 4), np.nan), full).cosine == -1


def test_a_map_that_stands_still_where_the_oracles_moves_is_frozen():
    aim = np.random.default_rng(0).normal(size=(2, 3, 5))
    still = np.repeat(aim[:, :1], 3, axis=1)
    one_target = np.repeat(aim[:1], 2, axis=0)
    x = np.ones((3, 5), np.float32)

    assert frozen_map(aim, aim) == "passed"
    assert frozen_map(aim, aim, x) == "passed"
    assert frozen_map(still, still) == "constant_gradient"
    assert frozen_map(one_target, one_target) == "passed"
    with pytest.raises(VerificationError, match="two inputs"):
        frozen_map(still, aim)
    with pytest.raises(VerificationError, match="two targets"):
        frozen_map(one_target, aim)


def test_a_network_that_bends_is_not_affine():
    first, second = np.array([[1.0, 2]]), np.array([[3.0, -4]])

    assert is_affine(np.stack([first, second, [[2.0, -1]]]))
    assert not is_affine(np.stack([first, second, [[2.0, -1.01]]]))


def test_a_completeness_error_that_is_not_the_maps_is_found(named):
    """Integrated gradients may miss by their quadrature, but must say by how much."""
    network = named("smooth")

    def change(model):
        for node in model.graph.node:
            if "completeness_error" in node.output:
                node.op_type = "Add"

    with pytest.raises(VerificationError, match="completeness error is wrong"):
        verify(
            spoilt(build(network.model, "integrated_gradients"), change),
            network.model,
            network.samples(3),
            None,
        )


def test_methods_without_finite_differences_have_none(named):
    network = named("plain")
    assert {*WEIGHTED_POINTS, *CHANNEL_WEIGHTS} <= set(EXPLAINERS)
    for method in ("vargrad", "deconvnet", "lrp_zplus", "occlusion", "ewa"):
        graph = build(network.model, method)
        assert difference_error(graph, network.model, network.samples(2)) is None


def test_not_applicable_is_said_before_verification(named):
    with pytest.raises(NotApplicableError):
        build(named("mlp").model, "gradcam")
