from dataclasses import replace

import numpy as np
import onnx
import pytest

from clearweight.exporter.explain import EXPLAINERS, NotApplicableError, VerificationError, build, verify
from clearweight.exporter.explain.float64 import block_dense
from clearweight.exporter.explain.verification import agreement, frozen_map
from tests.exporter.explain.networks import MODULES

CASES = [
    (name, method)
    for name in MODULES
    for method in EXPLAINERS
    if (name, method) not in {("mlp", "gradcam"), ("affine", "gradcam")}
]


def oracle_of(network, method):
    if method == "gradcam":
        return None
    return lambda x, target: network.gradient(x, target) * (x if method == "input_x_gradient" else 1)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_what_was_built_is_right(named, name, method):
    network = named(name)
    graph = build(network.model, method)
    found = verify(graph, network.model, network.samples(3), oracle_of(network, method))

    assert found.samples == 3
    assert found.targets == 2
    assert found.cosine_to_float64 > 0.999999
    assert found.q999_error_over_max < 1e-5
    assert (found.cosine_to_torch is None) == (method == "gradcam")
    assert (found.completeness_error_max is None) == (not graph.completeness)
    assert found.frozen_map == ("constant_gradient" if name == "affine" else "passed")


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
        verify(graph, network.model, x, oracle_of(network, "gradient") if with_oracle else None)


def double_the_map(model):
    position = next(at for at, node in enumerate(model.graph.node) if "explain" in node.output)
    model.graph.node[position].output[0] = "half"
    model.graph.node.insert(position + 1, onnx.helper.make_node("Add", ["half", "half"], ["explain"]))


@pytest.mark.parametrize("method", EXPLAINERS)
def test_a_map_of_the_wrong_size_is_found_by_finite_differences(named, method):
    network = named("cnn")
    graph = spoilt(build(network.model, method), double_the_map)
    with pytest.raises(VerificationError, match="finite differences"):
        verify(graph, network.model, network.samples(3), None)


def test_a_wrong_gradient_is_found_by_the_oracle(named):
    network = named("cnn")
    graph = build(network.model, "gradient")
    with pytest.raises(VerificationError, match="the oracle"):
        verify(graph, network.model, network.samples(3), lambda x, target: -network.gradient(x, target))


def test_a_bias_that_does_not_fit_is_found(named):
    network = named("cnn")

    def change(model):
        for node in model.graph.node:
            if node.op_type == "Neg":
                node.op_type = "Identity"

    with pytest.raises(VerificationError, match="miss the logit"):
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
    found = verify(build(network.model, "gradient"), network.model, x, oracle_of(network, "gradient"))

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

    assert frozen_map(aim, aim, x, "gradient") == "passed"
    assert frozen_map(still, still, x, "gradient") == "constant_gradient"
    with pytest.raises(VerificationError, match="two inputs"):
        frozen_map(still, aim, x, "gradient")
    with pytest.raises(VerificationError, match="two targets"):
        frozen_map(one_target, aim, x, "gradient")


def test_block_dense_is_the_same_transposed_convolution():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    w, x = torch.tensor(rng.normal(size=(6, 2, 3, 3))), torch.tensor(rng.normal(size=(1, 6, 4, 4)))
    convolve = torch.nn.functional.conv_transpose2d

    assert convolve(x, torch.tensor(block_dense(w.numpy(), 3))).numpy() == pytest.approx(
        convolve(x, w, groups=3).numpy()
    )


def test_not_applicable_is_said_before_verification(named):
    with pytest.raises(NotApplicableError):
        build(named("mlp").model, "gradcam")
