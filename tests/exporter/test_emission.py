"""What is emitted is what was compressed: the same names, the same bits, the same maps."""

import dataclasses
import io

import numpy as np
import onnx
import pytest
import torch

from clearweight.artifact import WeightsReader
from clearweight.exporter import ConstraintError, RecipeError
from clearweight.exporter.emission import Oracle, check_codes, explain_graphs, pack
from clearweight.exporter.explain import EXPLAINERS
from clearweight.exporter.graph import session, split_parameters
from tests import small_digits


def test_the_packed_weights_are_the_graphs_parameters_bit_for_bit(exported):
    emitted = exported.compressed
    _, parameters = split_parameters(emitted.predict)
    packed = dict(WeightsReader(emitted.contents["weights.cwt"]).tensors())

    assert packed.keys() == parameters.keys()
    for name, values in parameters.items():
        assert packed[name].astype(np.float32).tobytes() == values.tobytes()


def test_every_parameter_of_every_graph_is_external_and_packed(exported):
    packed = {r.name for r in WeightsReader(exported.compressed.contents["weights.cwt"]).records}
    for name, data in exported.compressed.contents.items():
        if not name.endswith(".onnx"):
            continue
        graph = onnx.load_from_string(data).graph
        assert {i.name for i in graph.initializer} <= packed
        for tensor in graph.initializer:
            assert tensor.data_location == onnx.TensorProto.EXTERNAL
            assert not tensor.raw_data


def test_no_graph_holds_a_path_a_document_or_a_source_line(exported):
    for name, data in exported.compressed.contents.items():
        if name.endswith(".onnx"):
            model = onnx.load_from_string(data)
            assert not model.metadata_props
            assert (model.doc_string, model.producer_name) == ("", "")
            assert not any(n.doc_string or n.metadata_props for n in model.graph.node)
            assert b".py" not in data


def test_the_emitted_graph_answers_as_the_compressed_module(exported):
    x = exported.prepared.inputs(exported.prepared.test)[:20]

    logits = session(exported.compressed.predict).run(None, {"input": x.numpy()})[0]

    with torch.no_grad():
        assert np.allclose(logits, exported.compressed.plain(x), atol=1e-4)


def test_the_compressed_module_kept_its_constraints(exported):
    weight = exported.compressed.plain.fc1.weight.detach()

    assert (weight != 0).float().mean() <= 0.3
    assert len(weight.unique()) <= 32
    assert torch.equal(weight, weight.half().float())


@pytest.mark.parametrize("method", ["gradient", "input_x_gradient"])
def test_the_oracle_is_finite_differences(exported, method):
    model = exported.reference.plain
    double = Oracle(model, method)
    x = exported.prepared.inputs(exported.prepared.test)[:1].numpy()
    found = double(x, np.array([3]))

    slow = np.zeros_like(x)
    step = 1e-3
    with torch.no_grad():
        for i in np.ndindex(x.shape):
            up, down = x.copy(), x.copy()
            up[i] += step
            down[i] -= step
            difference = model(torch.from_numpy(up))[0, 3] - model(torch.from_numpy(down))[0, 3]
            slow[i] = float(difference) / (2 * step)
    slow = slow if method == "gradient" else slow * x
    assert np.corrcoef(found.ravel(), slow.ravel())[0, 1] > 0.99


def test_every_explain_graph_was_verified(exported):
    records = exported.compressed.records

    assert set(records) == set(EXPLAINERS)
    for method, record in records.items():
        assert record.file == f"explain.{method}.onnx"
        assert record.verification.cosine_to_float64 > 0.9999
        assert record.verification.frozen_map == "passed"
    assert records["gradient"].verification.cosine_to_torch > 0.9999
    assert records["gradcam"].verification.cosine_to_torch is None


def test_a_code_with_other_values_than_the_graph_is_refused(exported):
    from clearweight.artifact import CodedTensor

    _, parameters = split_parameters(exported.compressed.predict)
    right = [CodedTensor(name, values) for name, values in parameters.items()]
    changed = [dataclasses.replace(right[0], values=right[0].values + 1), *right[1:]]

    check_codes(right, parameters)
    with pytest.raises(ConstraintError, match="has other values in the graph"):
        check_codes(changed, parameters)
    with pytest.raises(ConstraintError, match="is none of the module's"):
        check_codes(right[1:], parameters)


def test_packing_is_deterministic_and_counted(exported):
    from clearweight.artifact import CodedTensor

    tensors = [CodedTensor("a", np.arange(6, dtype=np.float32).reshape(2, 3))]
    data, report = pack(tensors)

    assert data == pack(tensors)[0]
    assert report.ledger().packed_bytes == len(data)
    assert dict(WeightsReader(io.BytesIO(data).getvalue()).tensors())["a"].shape == (2, 3)


def test_an_unknown_explainer_is_named(exported):
    recipe = small_digits.recipe(explainers=["lime"], default_explainer="lime")

    with pytest.raises(RecipeError, match="unknown 'lime'; known: gradient, input_x_gradient, gradcam"):
        explain_graphs(exported.compressed.predict, recipe)


def test_gradcam_is_left_out_where_there_is_no_feature_map_unless_it_is_asked_for():
    from clearweight.exporter.graph import to_onnx

    model = to_onnx(
        torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10)
        ),
        torch.zeros(2, 1, 8, 8),
    )

    assert set(explain_graphs(model, small_digits.recipe())) == {"gradient", "input_x_gradient"}
    with pytest.raises(RecipeError, match="'gradcam' does not work on this network"):
        explain_graphs(model, small_digits.recipe(explainers=["input_x_gradient", "gradcam"]))
