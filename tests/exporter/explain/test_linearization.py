import numpy as np
import onnx
import pytest

from clearweight.exporter.explain import NotApplicableError, build
from clearweight.exporter.graph import session
from tests.exporter.explain.perturbing import inputs_of, run


@pytest.mark.parametrize("name", ["mlp", "affine", "cnn", "residual", "wave"])
def test_each_classs_map_is_its_gradient_and_the_rest_is_the_bias(named, name):
    network = named(name)
    x = network.samples(3)
    graph = build(network.model, "linearization")
    got = run(graph, inputs_of(graph, x, [-1, 0, 1]))
    classes = got["logits"].shape[1]

    assert got["explain"].shape == (3, classes, *network.module.shape)
    assert graph.steps == classes
    for c in range(classes):
        np.testing.assert_allclose(got["explain"][:, c], network.gradient(x, [c] * 3), rtol=1e-4, atol=1e-5)
    assert got["completeness_error"].shape == (3,)
    assert np.abs(got["completeness_error"]).max() < 1e-5


def test_the_map_is_the_product_of_the_layers_matrices(named):
    """W2 D1 W1 with D1 the open gates, and the bias layer by layer: W2 D1 b1 + b2."""
    network = named("mlp")
    x = network.samples(4)
    w1, b1, w2, b2 = (p.double().numpy() for p in network.module.parameters())
    graph = build(network.model, "linearization")
    got = run(graph, inputs_of(graph, x, [-1] * 4))
    for row, w, logits in zip(x, got["explain"], got["logits"], strict=True):
        d1 = np.diag((w1 @ row.ravel() + b1 > 0).astype(float))
        np.testing.assert_allclose(w.reshape(5, -1), w2 @ d1 @ w1, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            logits - w.reshape(5, -1) @ row.ravel(), w2 @ d1 @ b1 + b2, rtol=1e-4, atol=1e-5
        )


def test_the_two_routes_to_the_bias_are_two(named):
    """A bias that only the second route reads is spoilt: the error must say so, for whichever class it is."""
    network = named("cnn")
    changed = onnx.ModelProto()
    changed.CopyFrom(build(network.model, "linearization").model)
    for node in changed.graph.node:
        if node.op_type == "Neg" and node.input[0] in {tensor.name for tensor in changed.graph.initializer}:
            node.op_type = "Identity"
    found = session(changed).run(
        ["completeness_error"], {"input": network.samples(2), "target": np.array([0, 1])}
    )[0]

    assert np.abs(found).min() > 1e-3


def test_the_error_is_the_largest_over_the_classes_whatever_the_target(named):
    network = named("cnn")
    x = network.samples(2)
    graph = build(network.model, "linearization")
    first, second = (run(graph, inputs_of(graph, x, target)) for target in ([0, 0], [3, 2]))

    np.testing.assert_array_equal(first["explain"], second["explain"])
    np.testing.assert_array_equal(first["completeness_error"], second["completeness_error"])
    assert (first["completeness_error"] >= 0).all()


def test_a_network_that_bends_smoothly_is_refused(named):
    with pytest.raises(NotApplicableError, match="piecewise linear"):
        build(named("smooth").model, "linearization")
