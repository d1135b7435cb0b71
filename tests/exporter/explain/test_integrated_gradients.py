import captum.attr
import numpy as np
import pytest
import torch

from clearweight.artifact import explain_inputs
from clearweight.exporter.explain import NotApplicableError, build
from tests.exporter.explain.perturbing import inputs_of, predict, run


def slow_integrated_gradients(network, x, target, baseline, steps):
    """Equation 1 as a sum, one row and one point at a time."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    maps = []
    for row, c, low in zip(x, target, np.broadcast_to(baseline, x.shape), strict=True):
        total = np.zeros_like(row, dtype=np.float64)
        for node, weight in zip(nodes, weights, strict=True):
            point = low + (1 + node) / 2 * (row - low)
            total += weight / 2 * network.gradient(point[None].astype(np.float32), [c])[0]
        maps.append((row - low) * total)
    return np.stack(maps)


@pytest.mark.parametrize("name", ["mlp", "cnn", "wave"])
@pytest.mark.parametrize("steps", [1, 5])
def test_it_is_the_papers_sum(named, name, steps):
    network = named(name)
    x, target = network.samples(3), np.array([1, 0, 2])
    baseline = network.samples(3, seed=5)
    graph = build(network.model, "integrated_gradients")
    got = run(graph, inputs_of(graph, x, target, steps=steps, baseline=baseline))

    expected = slow_integrated_gradients(network, x, target, baseline, steps)
    np.testing.assert_allclose(got["explain"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got["logits"], predict(network.model, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual"])
def test_it_is_captums_with_its_delta_turned_round(named, name):
    network = named(name)
    x, target = network.samples(3), np.array([2, 1, 0])
    graph = build(network.model, "integrated_gradients")
    got = run(graph, inputs_of(graph, x, target))
    oracle = captum.attr.IntegratedGradients(network.module)
    expected, delta = oracle.attribute(
        torch.tensor(x), target=torch.tensor(target), n_steps=32, return_convergence_delta=True
    )

    np.testing.assert_allclose(got["explain"], expected.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got["completeness_error"], -delta.detach(), atol=1e-5)


def test_the_map_adds_up_where_the_network_is_smooth_and_its_error_says_how_far_where_it_is_not(named):
    for name, bound in (("smooth", 1e-5), ("cnn", 1e-2)):
        network = named(name)
        x, baseline = network.samples(4), network.samples(4, seed=1)
        graph = build(network.model, "integrated_gradients")
        got = run(graph, inputs_of(graph, x, [0, 1, 2, 3], baseline=baseline))
        fall = (predict(network.model, x) - predict(network.model, baseline))[range(4), [0, 1, 2, 3]]
        error = fall - got["explain"].reshape(4, -1).sum(1)

        np.testing.assert_allclose(got["completeness_error"], error, atol=1e-5)
        assert np.abs(error).max() < bound


def test_one_class_is_explained_along_the_whole_path(named):
    """The arg-max at the input counts, also where other classes win on the way to the baseline."""
    network = named("mlp")
    x = network.samples(8)
    best = predict(network.model, x).argmax(1)
    at_baseline = predict(network.model, np.zeros_like(x)).argmax(1)
    graph = build(network.model, "integrated_gradients")

    assert (best != at_baseline).any()
    whole = run(graph, inputs_of(graph, x, np.full(8, -1)))["explain"]
    np.testing.assert_array_equal(whole, run(graph, inputs_of(graph, x, best))["explain"])


def test_at_its_own_baseline_an_input_gets_an_empty_map(named):
    network = named("cnn")
    x = network.samples(2)
    graph = build(network.model, "integrated_gradients")
    got = run(graph, inputs_of(graph, x, [0, 1], baseline=x))

    assert not got["explain"].any()
    np.testing.assert_allclose(got["completeness_error"], 0, atol=1e-6)


def test_parameters_are_shared_by_the_copies_of_the_network(named):
    network = named("cnn")
    graph = build(network.model, "integrated_gradients")

    own = {tensor.name for tensor in network.model.graph.initializer}
    assert {tensor.name for tensor in graph.model.graph.initializer} == own


def test_a_fixed_batch_is_refused(named):
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(named("mlp").model)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.shape.dim and value.type.tensor_type.shape.dim[0].dim_param == "N":
            value.type.tensor_type.shape.dim[0].dim_value = 1
    for method in ("integrated_gradients", "smoothgrad", "linearization"):
        with pytest.raises(NotApplicableError, match="fixed batch of 1"):
            build(model, method)


def test_the_path_is_that_of_the_artifact(named):
    made = explain_inputs(("path", "path_weight"), (1, 4), steps=32, seed=0, settings={})

    assert build(named("mlp").model, "integrated_gradients").steps == 32
    assert made["path_weight"].sum() == pytest.approx(1)
