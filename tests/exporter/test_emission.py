"""What is emitted is what was compressed: the same names, the same bits, the same maps."""

import dataclasses
import io

import numpy as np
import onnx
import pytest
import torch

from clearweight.artifact import WeightsReader
from clearweight.exporter import ConstraintError, RecipeError
from clearweight.exporter.emission import check_codes, explain_graphs, pack
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


def test_every_explain_graph_was_verified(exported):
    records = exported.compressed.records

    assert (
        set(records) == set(small_digits.recipe().explainers) == {"gradient", "input_x_gradient", "gradcam"}
    )
    for method, record in records.items():
        assert record.file == f"explain.{method}.onnx"
        assert record.verification.cosine_to_float64 > 0.9999
        assert record.verification.frozen_map == "passed"
    assert records["gradient"].verification.cosine_to_torch > 0.9999
    assert records["gradcam"].verification.cosine_to_float64 > 0.9999


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

    with pytest.raises(RecipeError, match="unknown 'lime'; known: gradient, input_x_gradient, linearization"):
        explain_graphs(exported.compressed.predict, recipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"explainer_settings": {"lime": {"a": 1}}}, "explainer_settings: unknown 'lime'"),
        ({"explainer_settings": {"smoothgrad": {"sigma": 0.1}}}, "'smoothgrad' is not among explainers"),
        (
            {
                "explainers": ["input_x_gradient", "smoothgrad"],
                "explainer_settings": {"smoothgrad": {"width": 1}},
            },
            "no setting 'width'. Known: sigma",
        ),
        (
            {"explainers": ["input_x_gradient", "ewa"], "feature_layer": "nowhere"},
            "'nowhere' is no feature map",
        ),
    ],
)
def test_settings_that_fit_nothing_are_refused(exported, changes, message):
    with pytest.raises(RecipeError, match=message):
        explain_graphs(exported.compressed.predict, small_digits.recipe(**changes))


def test_settings_and_layer_reach_the_graphs(exported):
    recipe = small_digits.recipe(
        explainers=["input_x_gradient", "smoothgrad", "swa"],
        explainer_settings={"smoothgrad": {"sigma": 0.3}},
        feature_layer="conv1",
    )
    graphs = explain_graphs(exported.compressed.predict, recipe)

    assert graphs["smoothgrad"].settings == {"sigma": 0.3}
    assert graphs["swa"].layer == "conv1"
    assert graphs["input_x_gradient"].layer is None


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
