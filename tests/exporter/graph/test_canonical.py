"""A user's ONNX file in, the canonical form out."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from clearweight.exporter.graph import (
    IR_VERSION,
    OPSET,
    UnsupportedModelError,
    canonicalize,
    session,
)

RNG = np.random.default_rng(21)


def model_of(nodes, initializers, *, inputs=None, outputs=None, opset=18, domains=()):
    graph = helper.make_graph(
        nodes,
        "made by hand",
        inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [onnx.numpy_helper.from_array(array, name) for name, array in initializers.items()],
        doc_string="a note",
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    made = helper.make_model(graph, opset_imports=opsets, producer_name="someone", ir_version=8)
    helper.set_model_props(made, {"author": "/home/someone"})
    for node in made.graph.node:
        node.doc_string = "/home/someone/net.py"
        node.metadata_props.add(key="trace", value="/home/someone/net.py")
    return made


def affine(**kwargs):
    weight = RNG.normal(size=(4, 3)).astype(np.float32)
    bias = RNG.normal(size=3).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    return model_of(nodes, {"w": weight, "b": bias}, **kwargs)


def run(model, images):
    return session(model).run(None, {model.graph.input[0].name: images})[0]


def test_a_canonical_model_comes_back_byte_for_byte(network, exported):
    model = exported(*network)

    assert canonicalize(model).SerializeToString() == model.SerializeToString()


def test_the_callers_model_is_not_modified():
    model = affine()
    before = model.SerializeToString()

    canonicalize(model)

    assert model.SerializeToString() == before


def test_versions_are_fixed_and_everything_that_tells_of_its_maker_is_gone():
    model = canonicalize(affine())

    assert (model.ir_version, [(entry.domain, entry.version) for entry in model.opset_import]) == (
        IR_VERSION,
        [("", OPSET)],
    )
    assert b"someone" not in model.SerializeToString()
    assert b"a note" not in model.SerializeToString()
    assert b"made by hand" not in model.SerializeToString()


def test_weights_of_unknown_origin_are_parameters_whatever_reads_them():
    model = affine()
    images = RNG.normal(size=(5, 4)).astype(np.float32)

    canonical = canonicalize(model)

    assert [tensor.name for tensor in canonical.graph.initializer] == ["w", "b"]
    assert np.abs(run(canonical, images) - run(model, images)).max() < 1e-6


def test_weights_written_as_constant_nodes_become_parameters():
    weight = RNG.normal(size=(4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(weight)),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]

    canonical = canonicalize(model_of(nodes, {}))

    assert [tuple(tensor.dims) for tensor in canonical.graph.initializer] == [(4, 3)]
    assert [node.op_type for node in canonical.graph.node] == ["MatMul"]


def test_settings_and_scalars_are_constants():
    weight = RNG.normal(size=(4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["c"]),
        helper.make_node("Mul", ["c", "two"], ["m"]),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    initializers = {
        "low": np.float32(-1.0),
        "high": np.float32(1.0),
        "two": np.float32(2.0),
        "w": weight,
        "unused": np.ones(9, dtype=np.float32),
    }

    canonical = canonicalize(model_of(nodes, initializers))

    assert [tensor.name for tensor in canonical.graph.initializer] == ["w"]
    assert [node.op_type for node in canonical.graph.node] == ["Constant"] * 3 + ["Clip", "Mul", "MatMul"]


def test_a_setting_of_several_numbers_is_no_parameter():
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["r"], mode="nearest"),
        helper.make_node("Mul", ["r", "gain"], ["y"]),
    ]
    initializers = {"scales": np.array([1, 2], np.float32), "gain": np.ones(8, np.float32) * 3}

    canonical = canonicalize(
        model_of(nodes, initializers, outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    )

    assert [tensor.name for tensor in canonical.graph.initializer] == ["gain"]
    assert [node.op_type for node in canonical.graph.node] == ["Constant", "Resize", "Mul"]


def test_named_parameters_exclude_all_that_is_not_a_weight():
    weight = RNG.normal(size=(4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["x", "gain"], ["m"]),
        helper.make_node("Sub", ["m", "mean"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    initializers = {"gain": np.ones(4, np.float32) * 3, "mean": np.ones(4, np.float32), "w": weight}

    canonical = canonicalize(model_of(nodes, initializers), parameters={"gain"})

    assert [tensor.name for tensor in canonical.graph.initializer] == ["gain", "w"]


def test_nodes_in_any_order_come_out_in_topological_order():
    model = affine()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)

    assert [node.op_type for node in canonicalize(model).graph.node] == ["MatMul", "Add"]


def test_an_older_opset_is_converted():
    model = affine(opset=11)
    images = RNG.normal(size=(2, 4)).astype(np.float32)

    assert np.abs(run(canonicalize(model), images) - run(model, images)).max() < 1e-6


def test_local_functions_are_inlined():
    function = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    model = affine(domains=("local",))
    model.graph.node[1].input[0] = "h2"
    model.graph.node.insert(1, helper.make_node("Twice", ["h"], ["h2"], domain="local"))
    model.functions.append(function)

    canonical = canonicalize(model)

    assert [node.op_type for node in canonical.graph.node] == ["MatMul", "Add", "Add"]
    assert not canonical.functions


def two_outputs():
    model = affine()
    model.graph.output.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", 3]))
    return model


def integer_input():
    source = [helper.make_tensor_value_info("x", TensorProto.INT64, ["batch", 4])]
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    return model_of(nodes, {}, inputs=source)


def sparse():
    model = affine()
    entry = model.graph.sparse_initializer.add()
    entry.values.CopyFrom(onnx.numpy_helper.from_array(np.ones(1, np.float32), "thin"))
    return model


def external():
    model = affine()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return model


def foreign():
    nodes = [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]
    return model_of(nodes, {}, domains=("com.microsoft",))


def branching():
    value = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "branch", [], value)
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["condition"], to=TensorProto.BOOL),
        helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch),
    ]
    return model_of(nodes, {})


def free_height():
    source = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "height"])]
    return model_of([helper.make_node("Relu", ["x"], ["y"])], {}, inputs=source)


def without_shape():
    source = [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)]
    return model_of([helper.make_node("Relu", ["x"], ["y"])], {}, inputs=source)


def fixed_batch():
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["y"]),
    ]
    return model_of(nodes, {"shape": np.array([1, 4])})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_outputs, r"2 outputs \('y', 'h'\), expected one"),
        (integer_input, "input 'x' has type INT64, expected FLOAT"),
        (sparse, "Initializer 'thin' is sparse"),
        (external, "Initializer 'w' lies outside the model"),
        (foreign, "com.microsoft::Gelu .* is not a standard ONNX operator"),
        (branching, "Operator If .* holds a subgraph"),
        (free_height, r"free axis 1 \(height\)"),
        (without_shape, "Input 'x' has no shape"),
        (fixed_batch, "batch"),
    ],
)
def test_what_lies_outside_the_form_is_a_named_error(make, message):
    with pytest.raises(UnsupportedModelError, match=message):
        canonicalize(make())


def test_an_opset_that_cannot_be_converted_is_a_named_error():
    model = affine()
    model.opset_import[0].version = 9999

    with pytest.raises(UnsupportedModelError, match="opset 9999 and cannot be converted to 18"):
        canonicalize(model)
