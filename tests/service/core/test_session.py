"""Sessions: planned for any number of rows, or for a fixed one."""

import io
from dataclasses import replace

import numpy as np
import onnx
import pytest

from clearweight.artifact import Artifact, WeightsReader, write_weights
from clearweight.service import Engine, EngineOptions
from clearweight.service.core.session import Session
from clearweight.service.core.weights import OwnWeights
from tests.service import artifacts


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7])
def test_a_fixed_batch_answers_any_number_of_rows(exported, rows):
    artifact = Artifact.open(exported.path)
    graph, weights = artifact.graph("explain.input_x_gradient.onnx"), OwnWeights(artifact.weights)
    x = exported.prepared.inputs(exported.prepared.splits.validation).numpy()[:rows]
    name = artifact.manifest.inputs[0].name
    feed = {name: x, "target": np.arange(rows) % 10 - 1}

    planned = Session(graph, weights, 1, batch=3).run(feed, ["explain", "completeness_error"])
    free = Session(graph, weights, 1).run(feed, ["explain", "completeness_error"])

    assert planned[0].shape == free[0].shape
    for own, expected in zip(planned, free, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-4)


def test_what_all_rows_share_is_not_cut():
    """A graph with an input [N, 2] and a path [S]: the sum of the path times the row."""
    nodes = [
        onnx.helper.make_node("ReduceSum", ["path"], ["total"], keepdims=0),
        onnx.helper.make_node("Mul", ["x", "total"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "shared",
        [
            onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2]),
            onnx.helper.make_tensor_value_info("path", onnx.TensorProto.FLOAT, ["S"]),
        ],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 2])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    x, path = np.arange(10, dtype=np.float32).reshape(5, 2), np.full(7, 0.5, np.float32)

    none = io.BytesIO()
    write_weights(none, [])
    weights = OwnWeights(lambda: WeightsReader(none.getvalue()))
    session = Session(model.SerializeToString(), weights, 1, batch=2)

    np.testing.assert_allclose(session.run({"x": x, "path": path})[0], 3.5 * x)


def test_an_engine_with_a_fixed_batch_passes_its_tests_and_answers_alike(exported):
    x = np.asarray(exported.prepared.splits.validation.inputs[:3])
    with (
        Engine(exported.path, EngineOptions(fixed_batch=1)) as fixed,
        Engine(exported.path) as free,
    ):
        own, expected = fixed.explain(x), free.explain(x)
        assert fixed.self_test("digits").state == "passed"

    np.testing.assert_allclose(own.map, expected.map, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(own.logits, expected.logits, rtol=1e-4, atol=1e-4)


def test_weights_are_left_as_they_are_where_the_manifest_says_so(tmp_path, monkeypatch):
    def stated(manifest):
        left = replace(manifest.explainers["gradient"], prepacked=False)
        return replace(manifest, explainers={**manifest.explainers, "gradient": left})

    path = artifacts.write(tmp_path, change=stated)
    net = artifacts.pruned(artifacts.network(), 0.2)
    told = []
    unchanged = OwnWeights.open

    def spied(self, graph, options):
        try:
            told.append(options.get_session_config_entry("session.disable_prepacking"))
        except RuntimeError:
            told.append("0")
        return unchanged(self, graph, options)

    monkeypatch.setattr(OwnWeights, "open", spied)
    x = artifacts.inputs(3)
    with Engine(path, EngineOptions(all_explainers=True)) as engine:
        found = engine.explain(x, method="gradient")

    assert sorted(told) == ["0", "0", "1"]  # predict, input x gradient, gradient
    np.testing.assert_allclose(found.map, net.explain(x, found.target, "gradient"), rtol=1e-4, atol=1e-5)
