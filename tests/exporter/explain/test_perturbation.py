"""The engine under the forward-only explainers: one batch or a loop, the same maps."""

import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from torch import nn

from clearweight.exporter.explain import build, perturbation
from clearweight.exporter.explain.row_by_row import ROW_BY_ROW, row_by_row
from clearweight.exporter.graph import embed_parameters, split_parameters
from tests.exporter.explain.perturbing import inputs_of, recurrent, run, with_loop

METHODS = ["occlusion", "rise", "reciprocam"]


def looping(monkeypatch, rows, model, method, **options):
    """Build with a limit that lets so many rows through at a time."""
    with monkeypatch.context() as patch:
        patch.setattr(perturbation, "BATCH_BYTES", 0)
        patch.setattr(perturbation, "CHUNK_BYTES", rows)
        return build(model, method, **options)


def ops(graph):
    return [node.op_type for node in graph.model.graph.node]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk_bytes", [1, 9 * 864 * 4, 10**9])
def test_a_loop_gives_the_map_of_one_batch(named, monkeypatch, method, chunk_bytes):
    network = named("cnn")  # its largest value has 864 elements a row
    x = network.samples(3)
    whole, chunked = build(network.model, method), looping(monkeypatch, chunk_bytes, network.model, method)
    inputs = inputs_of(whole, x, [-1, 0, 3], steps=7 if method == "rise" else None)

    assert "Loop" not in ops(whole)
    assert ops(chunked).count("Loop") == 1
    np.testing.assert_allclose(
        run(chunked, inputs)["explain"], run(whole, inputs)["explain"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("model", [recurrent(nn.LSTM, dynamo=False), with_loop()])
def test_a_loop_goes_round_operators_without_a_rule(monkeypatch, model):
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    whole, chunked = build(model, "rise"), looping(monkeypatch, 1, model, "rise")
    inputs = inputs_of(whole, x, [0, 1, 2], steps=5)

    np.testing.assert_allclose(
        run(chunked, inputs)["explain"], run(whole, inputs)["explain"], rtol=1e-5, atol=1e-6
    )


def test_what_fits_in_memory_goes_through_at_once(named, monkeypatch):
    model = named("cnn").model  # 25 windows, the largest value 864 float32 a row
    for limit, looped in ((25 * 864 * 4, False), (25 * 864 * 4 - 1, True)):
        monkeypatch.setattr(perturbation, "BATCH_BYTES", limit)
        assert ("Loop" in ops(build(model, "occlusion"))) is looped


@pytest.mark.parametrize("method", METHODS)
def test_weights_stay_outside_by_name_also_where_a_loop_reads_them(named, monkeypatch, method):
    network = named("cnn")
    graph = looping(monkeypatch, 1, network.model, method)
    structure, parameters = split_parameters(graph.model)
    x = network.samples(2)
    inputs = inputs_of(graph, x, [0, 1], steps=5 if method == "rise" else None)
    options = ort.SessionOptions()
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in parameters.values()]
    options.add_external_initializers(list(parameters), values)
    running = ort.InferenceSession(structure.SerializeToString(), options, providers=["CPUExecutionProvider"])

    assert list(parameters) == [tensor.name for tensor in network.model.graph.initializer]
    expected = run(graph, inputs)["explain"]
    np.testing.assert_allclose(running.run(["explain"], inputs)[0], expected, rtol=1e-5, atol=1e-6)
    assert embed_parameters(structure, parameters) == graph.model


def test_a_loop_needs_less_memory_than_the_batch(named, monkeypatch):
    """The largest value of the body has one chunk's rows: read from the shapes that were run."""
    network = named("cnn")
    chunked = looping(monkeypatch, 4 * 864 * 3, network.model, "occlusion")
    body = next(node for node in chunked.model.graph.node if node.op_type == "Loop").attribute[0].g
    tapped = onnx.ModelProto()
    tapped.CopyFrom(chunked.model)
    inner = next(node for node in tapped.graph.node if node.op_type == "Loop")
    logits = next(name for node in body.node for name in node.output if name == "perturbed.logits")
    size = inner.attribute[0].g.node.add(op_type="Shape", input=[logits], output=["size"])
    assert size.op_type == "Shape"
    inner.attribute[0].g.output.add(name="size").CopyFrom(
        onnx.helper.make_tensor_value_info("size", onnx.TensorProto.INT64, [2])
    )
    inner.output.append("sizes")
    tapped.graph.output.add(name="sizes").CopyFrom(
        onnx.helper.make_tensor_value_info("sizes", onnx.TensorProto.INT64, [None, 2])
    )
    running = ort.InferenceSession(tapped.SerializeToString(), providers=["CPUExecutionProvider"])
    for count, at_once in ((1, 3), (2, 1), (5, 1)):
        rows = running.run(["sizes"], inputs_of(chunked, network.samples(count), [-1] * count))[0][:, 0]
        assert rows.max() == at_once * count
        assert rows.sum() == 25 * count


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *itertools.product(("cnn", "wave", "affine"), ("occlusion", "rise")),
        ("cnn", "reciprocam"),
        ("wave", "reciprocam"),
    ],
)
def test_the_row_by_row_maps_agree(named, name, method):
    network = named(name)
    graph = build(network.model, method)
    baseline = np.full((1, *network.module.shape), 0.3, np.float32)
    inputs = inputs_of(
        graph, network.samples(2), [-1, 1], steps=4 if method == "rise" else None, baseline=baseline
    )
    aim = row_by_row(graph, network.model, inputs)

    assert aim.dtype == np.float64
    np.testing.assert_allclose(run(graph, inputs)["explain"], aim, rtol=1e-4, atol=1e-5)


def test_every_forward_only_explainer_has_a_row_by_row_twin():
    assert sorted(ROW_BY_ROW) == sorted(METHODS)
