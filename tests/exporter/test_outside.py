"""Parameters outside protobuf: read where they lie, and nothing about a network changes but where its numbers are."""

import numpy as np
import onnx
import pytest
import torch

from clearweight.artifact import Artifact
from clearweight.exporter import outside
from clearweight.exporter.calibration import session_without_optimisation
from clearweight.exporter.explain import build
from clearweight.exporter.explain.float64 import Float64Twin
from clearweight.exporter.graph import embed_parameters, session, split_parameters, to_onnx
from clearweight.exporter.graph.onnx_file import read_onnx
from clearweight.exporter.outside import Parameters, check, has_outside, lies_outside, move_outside, numbers
from clearweight.exporter.own_model import prepare
from clearweight.exporter.post_training import Budget
from clearweight.exporter.post_training.artifact import Order, export_onnx
from tests.exporter.post_training.networks import cnn, exported, rows

ROW = (2, 10, 10)


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch):
    monkeypatch.setattr(outside, "LEAST", 256)


def copied(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


@pytest.fixture
def both(tmp_path):
    model = exported(cnn(), ROW)
    return model, move_outside(copied(model), tmp_path)


def run(opened, x):
    return opened.run(None, {opened.get_inputs()[0].name: x})[0]


def test_large_parameters_leave_the_message_and_keep_their_values(both):
    model, bare = both
    large = [tensor.name for tensor in bare.graph.initializer if lies_outside(tensor)]

    assert large == ["0.weight", "2.weight", "5.weight"]
    assert not any(tensor.raw_data for tensor in bare.graph.initializer if lies_outside(tensor))
    for tensor, own in zip(model.graph.initializer, bare.graph.initializer, strict=True):
        assert np.array_equal(numbers(own), onnx.numpy_helper.to_array(tensor))
    assert list(Parameters(bare)) == [tensor.name for tensor in model.graph.initializer]


def test_sessions_read_them_where_they_lie(both, tmp_path):
    model, bare = both
    x = rows(3, ROW)

    assert np.allclose(run(session(bare), x), run(session(model), x), rtol=1e-5, atol=1e-6)
    assert np.allclose(run(session_without_optimisation(bare, 1), x), run(session(model), x), atol=1e-6)
    # Nothing else could have answered: without the file there is no session.
    for file in tmp_path.glob(f"*{outside.SUFFIX}"):
        file.unlink()
    with pytest.raises(Exception, match="does not exist"):
        session(bare)


def test_splitting_and_embedding_are_those_of_a_whole_model(both, tmp_path):
    model, bare = both
    structure, parameters = split_parameters(bare)
    again = embed_parameters(structure, parameters, tmp_path)

    assert structure.SerializeToString() == split_parameters(model)[0].SerializeToString()
    assert embed_parameters(structure, parameters).SerializeToString() == model.SerializeToString()
    assert has_outside(again)
    assert all(np.array_equal(values, parameters[name]) for name, values in Parameters(again).items())


def test_a_graph_is_checked_for_what_it_says_of_them(both):
    _, bare = both
    check(bare, full=True)
    next(tensor for tensor in bare.graph.initializer if tensor.name == "5.weight").dims[:] = [4, 71]

    with pytest.raises(onnx.shape_inference.InferenceError):
        check(bare, full=True)


def test_the_float64_twin_widens_them_when_it_reads_them(both, monkeypatch):
    monkeypatch.setattr("clearweight.exporter.explain.float64._WIDENED", 100)
    model, bare = both
    x = rows(5, ROW)
    feed = {"input": x, "target": np.full(5, -1)}
    aim = Float64Twin(build(model, "input_x_gradient").model).run(feed)
    got = Float64Twin(build(bare, "input_x_gradient").model, rows=2).run(feed)

    assert list(got) == list(aim)
    for name, values in aim.items():
        assert values.dtype == np.float64
        np.testing.assert_allclose(got[name], values, rtol=1e-10, atol=1e-13)


def normalised():
    """Build a convolution with BatchNormalization behind it, as a user's file has it."""
    random = np.random.default_rng(3)
    arrays = {
        "w": random.normal(size=(8, 2, 3, 3)),
        **{name: random.uniform(1, 2, 8) for name in ("scale", "shift", "mean", "var")},
        "full": random.normal(size=(4, 512)),
    }
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"]),
        onnx.helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"]),
        onnx.helper.make_node("Relu", ["n"], ["r"]),
        onnx.helper.make_node("Flatten", ["r"], ["f"]),
        onnx.helper.make_node("Gemm", ["f", "full"], ["y"], transB=1),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", *ROW]), ("y", ["N", 4]))
    ]
    held = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "net", ends[:1], ends[1:], held)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def test_merged_batch_normalisation_goes_outside_too(tmp_path):
    model, x = normalised(), rows(2, ROW)
    onnx.save(model, tmp_path / "net.onnx")
    own = prepare(read_onnx(tmp_path / "net.onnx", tmp_path), tmp_path)

    assert "BatchNormalization merged into the operator before it" in own.changes
    assert all(map(lies_outside, filter(outside.is_large, own.classifier.graph.initializer)))
    assert np.allclose(run(session(own.classifier), x), run(session(model), x), rtol=1e-4, atol=1e-4)


def test_a_network_outside_makes_the_artifact_of_one_inside(tmp_path):
    onnx.save(to_onnx(cnn(), torch.zeros(2, *ROW)), tmp_path / "net.onnx")
    x, found = rows(40, ROW), []
    for place, folder in (("in", None), ("out", tmp_path), ("again", tmp_path)):
        own = prepare(read_onnx(tmp_path / "net.onnx", folder), folder)
        found.append(export_onnx(own, x, Order("net", budget=Budget(0.01, 0.9)), tmp_path / place))
    inside, out, again = (Artifact.open(entry.path) for entry in found)

    # The same runs, but for weights that are not laid out anew: the last digits of the statistics may differ.
    assert out.manifest.ledger.packed_bytes == pytest.approx(inside.manifest.ledger.packed_bytes, rel=0.02)
    assert (found[1].reference_path / "weights.cwt").read_bytes() == (
        found[0].reference_path / "weights.cwt"
    ).read_bytes()
    for name in ("weights.cwt", "predict.onnx", "canaries.safetensors", "manifest.json"):
        assert (found[1].path / name).read_bytes() == (found[2].path / name).read_bytes()
    assert again.manifest == out.manifest
