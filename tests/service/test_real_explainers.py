"""The exporter's own explain graphs, served: what comes back is the method's definition, computed again in numpy."""

import numpy as np
import onnx
import pytest

from clearweight.artifact import Verification, explain_inputs
from clearweight.exporter.explain import build
from clearweight.exporter.explain.record import record
from clearweight.exporter.graph import embed_parameters, session, split_parameters
from clearweight.service import Engine, InvalidRequestError
from tests.service import artifacts

METHODS = ("integrated_gradients", "smoothgrad", "rise", "occlusion", "vargrad")
NETWORK = artifacts.pruned(artifacts.network(), 0.2)
X = artifacts.inputs(3)
STATED = Verification(2, 2, 1.0, 0.0, None, None, None, "passed")


@pytest.fixture(scope="module")
def graphs():
    outline = onnx.load_model_from_string(artifacts.predict_graph(NETWORK))
    whole = embed_parameters(outline, NETWORK.parameters)
    return {method: build(whole, method) for method in METHODS}


@pytest.fixture(scope="module")
def engine(graphs, tmp_path_factory):
    more = {
        method: (record(graph, STATED), split_parameters(graph.model)[0].SerializeToString())
        for method, graph in graphs.items()
    }
    out = tmp_path_factory.mktemp("real")
    with Engine(artifacts.write(out, more=more, calibration=20)) as opened:
        yield opened


@pytest.mark.parametrize("steps", [None, 7])
def test_integrated_gradients_follow_their_path(engine, steps):
    baseline = artifacts.inputs(1, seed=8)

    found = engine.explain(X, method="integrated_gradients", baseline=baseline, steps=steps, target=2)

    points, weights = np.polynomial.legendre.leggauss(steps or found.parameters["steps"])
    target = np.full(len(X), 2)
    along = [
        w / 2 * NETWORK.explain(baseline + (p + 1) / 2 * (X - baseline), target, "gradient")
        for p, w in zip(points, weights, strict=True)
    ]
    assert np.allclose(found.map, (X - baseline) * np.sum(along, axis=0), atol=1e-5)
    missing = NETWORK.logits(X)[:, 2] - NETWORK.logits(baseline)[:, 2] - found.map.sum(axis=(1, 2, 3))
    assert np.allclose(found.completeness_error, missing, atol=1e-5)
    assert np.allclose(found.logits, NETWORK.logits(X), atol=1e-5)


def test_smoothgrad_is_the_mean_gradient_over_the_draws_of_the_seed(engine):
    found = engine.explain(X, method="smoothgrad", steps=5, seed=3, target=1)

    noise = explain_inputs(("noise",), X.shape, steps=5, seed=3, settings={})["noise"]
    spread = 0.15 * (X.max(axis=(1, 2, 3)) - X.min(axis=(1, 2, 3))).reshape(-1, 1, 1, 1)
    gradients = [NETWORK.explain(X + spread * draw, np.full(len(X), 1), "gradient") for draw in noise]
    assert np.allclose(found.map, np.mean(gradients, axis=0), atol=1e-5)


def test_occlusion_has_fixed_steps_and_a_baseline(engine, graphs):
    found = engine.explain(X, method="occlusion", target=0)
    other = engine.explain(X, method="occlusion", target=0, baseline=artifacts.inputs(1, seed=8))

    assert found.parameters["steps"] == graphs["occlusion"].steps > 1
    assert not np.allclose(found.map, other.map)
    with pytest.raises(InvalidRequestError, match="fixed steps"):
        engine.explain(X, method="occlusion", steps=3)


@pytest.mark.parametrize("method", METHODS)
def test_a_served_map_is_the_one_that_the_graph_gives_by_itself(engine, graphs, method):
    graph = graphs[method]
    further = explain_inputs(graph.inputs, X.shape, steps=graph.steps, seed=0, settings=graph.settings)
    target = np.full(len(X), -1, np.int64)

    alone = session(graph.model).run(["explain"], {"input": X, "target": target, **further})[0]
    served = engine.explain(X, method=method)

    assert np.allclose(served.map, alone, atol=1e-5 * np.abs(alone).max())
    assert np.array_equal(served.target, NETWORK.logits(X).argmax(axis=1))
    for row in range(len(X)):
        single = engine.explain(X[row : row + 1], method=method).map[0]
        assert np.allclose(single, served.map[row], atol=1e-4 * np.abs(alone).max())
