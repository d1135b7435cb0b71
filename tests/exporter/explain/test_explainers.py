from pathlib import Path

import captum.attr
import numpy as np
import onnx
import pytest
import torch

from clearweight.exporter.explain import (
    EXPLAINERS,
    NotApplicableError,
    UnknownMethodError,
    build,
)
from clearweight.exporter.explain.errors import ExplainError
from clearweight.exporter.graph import session, split_parameters
from tests.exporter.explain.perturbing import inputs_of, run

INPUT_LEVEL = ["gradient", "input_x_gradient"]
DIFFERENTIATING = [m for m in EXPLAINERS if m not in {"occlusion", "rise", "reciprocam"}]
WITHOUT_LAYER = [m for m in DIFFERENTIATING if EXPLAINERS[m].resolution == "input"]
PIECEWISE_LINEAR = {"mlp", "affine", "cnn", "residual", "wave"}
WITH_FEATURES = ["cnn", "residual", "wave", "smooth"]


def explained(graph, x, target):
    steps = min(graph.steps, 4) if graph.inputs else None
    baseline = np.broadcast_to(np.float32(0.1), (1, *x.shape[1:]))
    return run(graph, inputs_of(graph, x, target, steps=steps, baseline=baseline))


def targets(network, rows):
    """The arg-max, and each row its own class."""
    classes = network.model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return [np.full(rows, -1), np.arange(rows) % classes]


def test_every_explainer_is_filed_under_its_method():
    assert all(method == explainer.method for method, explainer in EXPLAINERS.items())
    assert {"gradient", "input_x_gradient", "gradcam", "occlusion", "rise", "reciprocam"} <= set(EXPLAINERS)


def test_every_explainer_is_documented_with_its_conventions():
    table = (Path(__file__).parents[3] / "docs" / "explainers.md").read_text(encoding="utf-8")
    for method, explainer in EXPLAINERS.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| `{method}` |"))
        assert explainer.sign in row
        assert explainer.units in row
        assert all(f"`{name}`" in row for name in explainer.inputs)


def test_gradient_is_torchs(network):
    x = network.samples(4)
    for target in targets(network, 4):
        got = explained(build(network.model, "gradient"), x, target)
        np.testing.assert_allclose(got["explain"], network.gradient(x, target), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got["logits"], network.module(torch.tensor(x)), rtol=1e-4, atol=1e-5)


def test_input_x_gradient_is_captums(network):
    x = network.samples(4)
    for target in targets(network, 4):
        got = explained(build(network.model, "input_x_gradient"), x, target)
        chosen = np.where(target < 0, got["logits"].argmax(1), target)
        oracle = captum.attr.InputXGradient(network.module)
        with pytest.warns(UserWarning, match="required_grads"):
            expected = oracle.attribute(torch.tensor(x), target=torch.tensor(chosen))
        np.testing.assert_allclose(got["explain"], expected.detach(), rtol=1e-4, atol=1e-5)


def test_map_and_linear_bias_add_up_to_the_logit_on_piecewise_linear_networks(network):
    graph = build(network.model, "input_x_gradient")

    assert graph.completeness == (network.name in PIECEWISE_LINEAR)
    if graph.completeness:
        got = explained(graph, network.samples(6), targets(network, 6)[1])
        assert got["completeness_error"].shape == (6,)
        assert np.abs(got["completeness_error"]).max() < 1e-5


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "wave"])
def test_the_second_route_reads_the_biases(named, name):
    """Change one bias and keep everything else: the first route does not see it, the second must."""
    network = named(name)
    changed = onnx.ModelProto()
    changed.CopyFrom(build(network.model, "input_x_gradient").model)
    made_by = {name: node for node in changed.graph.node for name in node.output}
    product = made_by[made_by["completeness_error"].input[0]]
    negated = made_by[made_by[product.input[1]].input[-1]]
    assert negated.op_type == "Neg"
    assert negated.input[0] in {tensor.name for tensor in changed.graph.initializer}
    negated.op_type = "Identity"
    runtime = session(changed)
    x = network.samples(3)
    error = runtime.run(["completeness_error"], {"input": x, "target": np.full(3, -1)})[0]

    assert np.abs(error).max() > 1e-3


def slow_gradcam(network, layer, x, target):
    """Grad-CAM after the paper, one sample and one channel at a time."""
    kept = []
    handle = dict(network.module.named_modules())[layer].register_forward_hook(
        lambda *call: kept.append(call[2].requires_grad_())
    )
    maps = []
    for sample, chosen in zip(x, target, strict=True):
        kept.clear()
        logits = network.module(torch.tensor(sample)[None])
        (a,) = kept
        (da,) = torch.autograd.grad(logits[0, chosen], a)
        total = torch.zeros(a.shape[2:])
        for channel in range(a.shape[1]):
            total += da[0, channel].mean() * a[0, channel].detach()
        maps.append(np.maximum(total.numpy(), 0)[None])
    handle.remove()
    return np.stack(maps)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("cnn", "pool2"), ("cnn", "conv2"), ("cnn", "pool1"), ("residual", "conv2"), ("wave", "conv2")],
)
def test_gradcam_is_the_papers_and_captums(named, name, layer):
    network = named(name)
    x = network.samples(4)
    for target in targets(network, 4):
        got = explained(build(network.model, "gradcam", layer=layer), x, target)
        chosen = np.where(target < 0, got["logits"].argmax(1), target)
        np.testing.assert_allclose(
            got["explain"], slow_gradcam(network, layer, x, chosen), rtol=1e-4, atol=1e-5
        )
        part = dict(network.module.named_modules())[layer]
        oracle = captum.attr.LayerGradCam(network.module, part)
        expected = oracle.attribute(torch.tensor(x, requires_grad=True), torch.tensor(chosen))
        np.testing.assert_allclose(got["explain"], torch.relu(expected).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [("cnn", "pool2", (-1, 1, 2, 2)), ("residual", "relu_3", (-1, 1, 4, 4)), ("wave", None, (-1, 1, 4))],
)
def test_gradcam_takes_the_last_feature_map(named, name, layer, shape):
    graph = build(named(name).model, "gradcam")

    assert graph.map_shape == shape
    assert graph.resolution == "feature"
    assert layer is None or graph.layer == layer


def test_gradcam_differentiates_only_behind_the_layer(named):
    whole = build(named("cnn").model, "gradcam", layer="conv1")
    head = build(named("cnn").model, "gradcam")

    assert len(head.model.graph.node) < len(whole.model.graph.node)
    assert "ConvTranspose" not in {
        node.op_type for node in build(named("residual").model, "gradcam").model.graph.node
    }


@pytest.mark.parametrize("name", ["mlp", "affine"])
def test_gradcam_needs_a_feature_map(named, name):
    with pytest.raises(NotApplicableError, match="feature map"):
        build(named(name).model, "gradcam")


def test_an_unknown_layer_is_named_with_the_known_ones(named):
    with pytest.raises(NotApplicableError, match=r"'nowhere'.*pool2"):
        build(named("cnn").model, "gradcam", layer="nowhere")


@pytest.mark.parametrize("method", WITHOUT_LAYER)
def test_input_level_methods_have_no_layer(named, method):
    with pytest.raises(NotApplicableError, match="'pool2'"):
        build(named("cnn").model, method, layer="pool2")


def test_an_unknown_method_is_named_with_the_known_ones(named):
    with pytest.raises(UnknownMethodError, match=r"'lime'.*gradcam"):
        build(named("mlp").model, "lime")


@pytest.mark.parametrize("method", EXPLAINERS)
@pytest.mark.parametrize("wrong", [4, -2, -(10**12)])
def test_a_target_that_is_no_class_gives_no_map_that_looks_right(named, method, wrong):
    x = named("cnn").samples(3)
    got = explained(build(named("cnn").model, method), x, [0, wrong, -1])["explain"]

    assert np.isnan(got[1]).any()
    assert np.isfinite(got[[0, 2]]).all()


@pytest.mark.parametrize("method", EXPLAINERS)
@pytest.mark.parametrize("batch", [1, 5])
def test_a_batch_is_explained_row_by_row(named, method, batch):
    graph = build(named("residual").model, method)
    x, target = named("residual").samples(batch), np.arange(batch) % 5
    whole = explained(graph, x, target)
    for row in range(batch):
        alone = explained(graph, x[row : row + 1], target[row : row + 1])
        for name, value in whole.items():
            np.testing.assert_allclose(value[row : row + 1], alone[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", WITHOUT_LAYER)
def test_the_graph_keeps_the_contract(network, method):
    try:
        graph = build(network.model, method)
    except NotApplicableError:
        assert network.name in {"affine", "smooth"}
        return
    proto = graph.model
    onnx.checker.check_model(proto, full_check=True)
    _, own = split_parameters(network.model)
    _, kept = split_parameters(proto)

    assert [entry.name for entry in proto.graph.input] == ["input", "target", *graph.inputs]
    assert proto.graph.input[1].type.tensor_type.elem_type == onnx.TensorProto.INT64
    assert [output.name for output in proto.graph.output][:2] == ["explain", "logits"]
    if method == "linearization":
        assert graph.map_shape == (-1, graph.steps, *network.module.shape)
    else:
        assert graph.map_shape == (-1, *network.module.shape)
    assert {node.domain for node in proto.graph.node} == {""}
    assert set(kept) == set(own)
    assert all(np.array_equal(own[name], kept[name]) for name in own)
    assert not any(node.doc_string or node.metadata_props for node in proto.graph.node)


def test_a_model_without_logits_is_refused():
    x = onnx.helper.make_tensor_value_info("input", 1, ["N", 3, 4])
    y = onnx.helper.make_tensor_value_info("y", 1, ["N", 3, 4])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["input"], ["y"])], "g", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    with pytest.raises(NotApplicableError, match="expected logits"):
        build(model, "gradient")
    assert issubclass(NotApplicableError, ExplainError)


def test_offsets_of_operators_that_torch_does_not_emit():
    """Bias by Add and Sub, Clip at both bounds, a Pad of ones, BatchNormalization left unfolded, Div by a constant."""
    helper = onnx.helper
    rng = np.random.default_rng(0)

    def parameter(name, *shape):
        return onnx.numpy_helper.from_array(rng.uniform(0.5, 1.5, shape).astype(np.float32), name)

    parameters = [
        parameter("w", 3, 2, 2, 2),
        *(parameter(name, 3) for name in ("scale", "shift", "mean", "variance")),
        parameter("m", 48, 4),
        parameter("a", 4),
        parameter("s", 4),
        parameter("d", 1, 4),
        parameter("t", 3, 1, 1),
    ]

    def constant(name, values, dtype):
        return helper.make_node(
            "Constant", [], [name], value=onnx.numpy_helper.from_array(np.asarray(values, dtype))
        )

    nodes = [
        constant("pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        constant("one", 1, np.float32),
        constant("low", 0.5, np.float32),
        constant("high", 4, np.float32),
        helper.make_node("Pad", ["input", "pads", "one"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"]),
        helper.make_node("Clip", ["n", "low", "high"], ["k"]),
        helper.make_node("Sub", ["t", "k"], ["u"]),
        helper.make_node("Flatten", ["u"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["q"]),
        helper.make_node("Add", ["a", "q"], ["r"]),
        helper.make_node("Sub", ["r", "s"], ["v"]),
        helper.make_node("Div", ["v", "d"], ["logits"]),
    ]
    x = helper.make_tensor_value_info("input", 1, ["N", 2, 3, 3])
    y = helper.make_tensor_value_info("logits", 1, ["N", 4])
    graph = helper.make_graph(nodes, "g", [x], [y], parameters)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    made = build(model, "input_x_gradient")
    got = explained(made, rng.normal(size=(5, 2, 3, 3)).astype(np.float32), np.arange(5) % 4)

    assert made.completeness
    assert np.abs(got["completeness_error"]).max() < 1e-5 * np.abs(got["logits"]).max()
