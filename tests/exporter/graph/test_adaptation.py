import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from clearweight.exporter.autodiff import MAX_OPSET
from clearweight.exporter.explain import build
from clearweight.exporter.graph import UnsupportedModelError, adapt, session

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.normal(size=(4, 3, 3, 3)),
    "v": RNG.normal(size=(64, 5)) / 8,
    "scale": RNG.uniform(0.5, 2, size=4),
    "bias": RNG.normal(size=4),
    "mean": RNG.normal(size=4),
    "variance": RNG.uniform(0.5, 2, size=4),
}
X = RNG.normal(size=(3, 3, 8, 8)).astype(np.float32)
IR_OF_OPSET = {7: 3, 9: 4, 11: 6, 13: 7, 15: 8, 16: 8, 18: 9, 22: 10, 26: 12}


def node(op, inputs, output, **attrs):
    return helper.make_node(op, inputs, [output], f"node_{output}", **attrs)


def network(opset):
    """Conv, BatchNorm, ReLU, pool, dropout, linear: what changed most between opsets."""
    return [
        node("Conv", ["x", "w"], "c", pads=[1] * 4),
        node("BatchNormalization", ["c", "scale", "bias", "mean", "variance"], "n"),
        node("Relu", ["n"], "r"),
        node("MaxPool", ["r"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], "f"),
        node("Dropout", ["f"], "d", **({"ratio": 0.5} if opset < 12 else {})),
        node("MatMul", ["d", "v"], "y"),
    ]


def model(opset=18, *, nodes=None, dtype=np.float32, as_inputs=False, x_shape=("N", 3, 8, 8), **given):
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = network(opset) if nodes is None else nodes
    read = {name for entry in nodes for name in entry.input}
    tensors = [
        numpy_helper.from_array(array.astype(dtype), name) for name, array in WEIGHTS.items() if name in read
    ]
    inputs = [helper.make_tensor_value_info("x", element, x_shape)]
    if as_inputs:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    output = helper.make_tensor_value_info("y", element, ["N", 5])
    graph = helper.make_graph(nodes, "net", inputs, [output], tensors)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), *given.pop("domains", [])],
        ir_version=given.pop("ir_version", IR_OF_OPSET.get(opset, 8)),
        **given,
    )


def logits_and_map(adapted):
    graph = build(adapted, "gradient")
    runtime = session(graph.model)
    names = [output.name for output in runtime.get_outputs()]
    target = np.full(len(X), 2, np.int64)
    return dict(zip(names, runtime.run(None, {"x": X, "target": target}), strict=True))


REFERENCE = logits_and_map(model(18))


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 15])
def test_an_old_opset_is_converted_to_17_and_gives_the_same_outputs(opset):
    old = model(opset, as_inputs=opset < 9)
    before = old.SerializeToString()
    found = adapt(old)
    got = logits_and_map(found.model)

    assert (found.original_opset, found.opset) == (opset, 17)
    assert f"converted from opset {opset} to 17" in found.changes
    assert found.difference is not None
    assert found.difference < 1e-5
    assert old.SerializeToString() == before
    np.testing.assert_allclose(got["y"], session(old).run(None, {"x": X})[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["explain"], REFERENCE["explain"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [16, 18, 22, MAX_OPSET])
def test_opset_and_ir_version_are_kept_from_16_on_up_to_the_explain_graph(opset):
    found = adapt(model(opset))
    made = build(found.model, "gradient").model

    assert found.opset == found.original_opset == opset
    for version in (found.model, made):
        assert version.ir_version == IR_OF_OPSET[opset]
        assert [entry.version for entry in version.opset_import if not entry.domain] == [opset]
    np.testing.assert_allclose(
        logits_and_map(found.model)["explain"], REFERENCE["explain"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("opset", "message"), [(6, "opset 6, expected 7 to 26"), (27, "opset 27, expected 7")]
)
def test_opsets_beyond_those_are_refused(opset, message):
    with pytest.raises(UnsupportedModelError, match=message):
        adapt(model(opset))


def test_what_onnx_cannot_convert_is_refused_with_its_reason():
    nodes = [node("Upsample", ["x"], "u", scales=[1.0, 1.0, 2.0, 2.0]), *network(9)]
    nodes[1].input[0] = "u"
    nodes[0].attribute[0].name = "height_scale"  # an attribute that no version has
    with pytest.raises(UnsupportedModelError, match="opset 9, and onnx cannot convert it to 17"):
        adapt(model(9, nodes=nodes))


def test_half_precision_is_widened_exactly_and_stated():
    half = model(18, dtype=np.float16)
    found = adapt(half)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.model.graph.initializer}

    assert found.widened_from == ("float16",)
    assert "widened from float16 to float32, inputs and outputs too" in found.changes
    assert all(np.array_equal(stored[name], WEIGHTS[name].astype(np.float16)) for name in stored)
    assert {entry.type.tensor_type.elem_type for entry in found.model.graph.input} == {TensorProto.FLOAT}
    assert found.difference is not None
    assert 0 < found.difference < 0.02
    got, own = logits_and_map(found.model), REFERENCE
    assert np.corrcoef(got["explain"].ravel(), own["explain"].ravel())[0, 1] > 0.999


def test_casts_between_half_and_single_become_casts_to_single():
    nodes = [node("Cast", ["x"], "h", to=TensorProto.FLOAT16), node("Cast", ["h"], "z", to=TensorProto.FLOAT)]
    body = network(18)
    body[0].input[0] = "z"
    mixed = model(18, nodes=[*nodes, *body])
    found = adapt(mixed)

    assert found.widened_from == ("float16",)
    np.testing.assert_allclose(
        logits_and_map(found.model)["explain"], REFERENCE["explain"], rtol=1e-4, atol=1e-5
    )


def test_functions_of_the_model_are_written_out():
    block = helper.make_function(
        "mine", "Block", ["a", "b"], ["c"],
        [helper.make_node("MatMul", ["a", "b"], ["m"]), helper.make_node("Tanh", ["m"], ["c"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    nodes = [*network(18)[:6], helper.make_node("Block", ["d", "v"], ["y"], "call", domain="mine")]
    found = adapt(model(18, nodes=nodes, functions=[block], domains=[helper.make_opsetid("mine", 1)]))

    assert not found.model.functions
    assert {entry.domain for entry in found.model.graph.node} == {""}
    assert any("1 functions written out" in change for change in found.changes)
    assert np.abs(logits_and_map(found.model)["explain"]).max() > 0


def test_borders_that_an_exporter_computes_from_constants_are_evaluated():
    """As older versions of torch.onnx write F.pad: the widths come out of Concat, Reshape, Slice and Cast."""
    widths = numpy_helper.from_array(np.array([1, 0, 0, 2], np.int64))
    nodes = [
        helper.make_node("Constant", [], ["given"], value=widths),
        helper.make_node("Constant", [], ["rest"], value=numpy_helper.from_array(np.zeros(4, np.int64))),
        helper.make_node("Concat", ["rest", "given"], ["pairs"], axis=0),
        helper.make_node("Cast", ["pairs"], ["widths"], to=TensorProto.INT64),
        helper.make_node("Pad", ["x", "widths"], ["padded"], "pad"),
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("Slice", ["padded", "start", "size", "axis"], ["z"], "crop"),
        *network(18),
    ]
    nodes[7].input[0] = "z"
    made = model(18, nodes=nodes, x_shape=(3, 3, 8, 8))
    made.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.int64), "start"))
    made.graph.initializer.append(numpy_helper.from_array(np.arange(4), "axis"))
    found = adapt(made)

    assert any("evaluated" in change for change in found.changes)
    assert np.abs(logits_and_map(found.model)["explain"]).max() > 0


def test_settings_may_be_initializers():
    """As most exporters write them: shapes, axes and bounds beside the weights."""
    nodes = [
        *network(18)[:3],
        node("Clip", ["r", "low", "high"], "k"),
        node("Slice", ["k", "from", "to"], "s"),
    ]
    nodes += [node("Resize", ["s", "", "scales"], "z", mode="linear"), node("Reshape", ["z", "shape"], "f")]
    nodes.append(node("MatMul", ["f", "v"], "y"))
    made = model(18, nodes=nodes)
    settings = {
        "low": np.float32(0),
        "high": np.float32(1),
        "from": np.array([0, 0, 1, 1]),
        "to": np.array([2**31, 4, 7, 7]),
        "scales": np.array([1, 1, 2 / 3, 2 / 3], np.float32),
        "shape": np.array([-1, 64]),
    }
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in settings.items())
    adapted = adapt(made).model

    assert np.abs(logits_and_map(adapted)["explain"]).max() > 0


def test_an_unchanged_model_is_the_model_itself():
    plain = model(18, nodes=[n for n in network(18) if n.op_type != "Dropout"])
    plain.graph.node[-1].input[0] = "f"
    found = adapt(plain)

    assert found.model is plain
    assert found.changes == ()
    assert found.difference is None


def training(op):
    nodes = network(18)
    if op == "Dropout":
        nodes[5].input.extend(["", "on"])
    else:
        nodes[1].attribute.append(helper.make_attribute("training_mode", 1))
        nodes[1].output.extend(["running_mean", "running_variance"])
    made = model(18, nodes=nodes)
    made.graph.initializer.append(numpy_helper.from_array(np.array(True), "on"))
    return made


def two_inputs():
    made = model(18, nodes=[node("Add", ["x", "z"], "q"), *network(18)])
    made.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 3, 8, 8]))
    return made


def outside():
    made = model(18)
    made.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return made


def without_opset():
    made = model(18)
    made.opset_import[0].domain = "ai.onnx.ml"
    return made


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: training("Dropout"), r"Dropout \(node 'node_d'\) is in training mode"),
        (lambda: training("BatchNormalization"), r"BatchNormalization \(node 'node_n'\) is in training mode"),
        (two_inputs, r"2 inputs \('x', 'z'\), expected one"),
        (lambda: model(18, dtype=np.float64), "type DOUBLE, expected FLOAT.*convert the model to float32"),
        (outside, "'w' lies outside the model"),
        (without_opset, "no opset of the standard operators"),
    ],
)
def test_what_cannot_be_explained_is_refused_by_name(make, message):
    with pytest.raises(UnsupportedModelError, match=message):
        adapt(make())


def test_an_adapted_model_with_other_outputs_is_refused(monkeypatch):
    def broken(original, _version):
        converted = onnx.ModelProto()
        converted.CopyFrom(original)
        weight = next(tensor for tensor in converted.graph.initializer if tensor.name == "v")
        weight.CopyFrom(numpy_helper.from_array(1.01 * numpy_helper.to_array(weight), "v"))
        converted.opset_import[0].version = 17
        return converted

    old = model(15)
    monkeypatch.setattr(onnx.version_converter, "convert_version", broken)
    with pytest.raises(UnsupportedModelError, match="outputs differ from the original's by"):
        adapt(old)
