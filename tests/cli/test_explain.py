"""`clearweight explain`: graphs of a user's own model, right, whole, and only where all of them are right."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.cli import onnx_files

X = np.random.default_rng(3).standard_normal((3, *onnx_files.SHAPE)).astype(np.float32)


@pytest.fixture
def net(tmp_path):
    return onnx_files.write(tmp_path / "net.onnx", onnx_files.model())


def run(path, **inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


def explained(path, target=-1):
    return run(path, x=X, target=np.full(len(X), target, np.int64))


def test_the_graphs_stand_alone_and_their_maps_are_the_derivative(command, net, tmp_path):
    out = tmp_path / "maps"

    code, record = command.json("explain", net, "--out", out)

    assert code == 0
    assert {path.name for path in out.iterdir()} == {
        "explain.gradient.onnx",
        "explain.input_x_gradient.onnx",
        "explain.json",
    }
    best = onnx_files.logits(X).argmax(axis=1)
    slope = onnx_files.slope(X, best)
    found = explained(out / "explain.gradient.onnx")
    assert list(found) == ["explain", "logits"]
    assert np.allclose(found["explain"], slope, atol=1e-4)
    assert np.allclose(found["logits"], onnx_files.logits(X), atol=1e-5)
    chosen = explained(out / "explain.gradient.onnx", 2)["explain"]
    assert np.allclose(chosen, onnx_files.slope(X, [2, 2, 2]), atol=1e-4)
    second = explained(out / "explain.input_x_gradient.onnx")
    assert np.allclose(second["explain"], X * slope, atol=1e-4)
    assert np.abs(second["completeness_error"]).max() < 1e-4
    assert json.loads((out / "explain.json").read_text()) == record


def test_the_record_says_what_each_map_means_and_how_it_was_verified(command, net, tmp_path):
    _, record = command.json("explain", net, "--out", tmp_path / "maps")

    assert record["model"]["file"] == "net.onnx"
    assert len(record["model"]["sha256"]) == 64
    assert (record["input"], record["input_shape"], record["output"]) == (
        "x",
        [-1, *onnx_files.SHAPE],
        "logits",
    )
    entry = record["explainers"]["input_x_gradient"]
    assert (entry["sign"], entry["units"], entry["completeness"]) == ("signed", "logit", True)
    assert entry["verification"]["cosine_to_float64"] > 0.9999
    assert entry["verification"]["cosine_to_torch"] is None
    assert str(tmp_path) not in (tmp_path / "maps" / "explain.json").read_text()


@pytest.mark.parametrize(("opset", "ir_version"), [(16, 8), (17, 8), (18, 8), (21, 10)])
def test_only_standard_operators_at_the_files_own_opset_and_ir_version(command, tmp_path, opset, ir_version):
    path = onnx_files.write(tmp_path / "net.onnx", onnx_files.model(opset=opset, ir_version=ir_version))
    out = tmp_path / "maps"
    command("explain", path, "--methods", "gradient,gradcam,occlusion,rise", "--out", out)

    assert len(list(out.glob("*.onnx"))) == 4
    for path in out.glob("*.onnx"):
        made = onnx.load(path)
        onnx.checker.check_model(made, full_check=True)
        assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", opset)]
        assert made.ir_version == ir_version
        assert all(node.domain == "" for node in made.graph.node)


@pytest.mark.parametrize("opset", [7, 9, 11, 13])
def test_old_opsets_are_converted_and_it_is_said(command, tmp_path, opset):
    path = onnx_files.write(tmp_path / "old.onnx", onnx_files.model(opset=opset, ir_version=4))

    code, record = command.json("explain", path, "--methods", "gradient", "--out", tmp_path / "maps")

    assert code == 0
    assert record["opset"] == 17
    assert f"converted from opset {opset} to 17" in record["changes"]
    best = onnx_files.logits(X).argmax(axis=1)
    found = explained(tmp_path / "maps" / "explain.gradient.onnx")["explain"]
    assert np.allclose(found, onnx_files.slope(X, best), atol=1e-4)


def test_half_precision_is_widened_and_it_is_said(command, tmp_path):
    path = onnx_files.write(tmp_path / "half.onnx", onnx_files.half())

    code, record = command.json("explain", path, "--methods", "gradient", "--out", tmp_path / "maps")
    found = explained(tmp_path / "maps" / "explain.gradient.onnx")

    assert code == 0
    assert any("float16" in change for change in record["changes"])
    assert found["explain"].dtype == np.float32
    best = onnx_files.logits(X).argmax(axis=1)
    assert np.allclose(found["explain"], onnx_files.slope(X, best), atol=5e-3)


def test_of_several_outputs_the_first_is_explained_and_all_are_returned(command, tmp_path):
    path = onnx_files.write(tmp_path / "two.onnx", onnx_files.two_outputs())

    code, record = command.json("explain", path, "--out", tmp_path / "maps")

    assert code == 0
    assert record["changes"] == ["the first of 2 outputs, 'logits', is explained"]
    assert list(explained(tmp_path / "maps" / "explain.gradient.onnx")) == ["explain", "logits", "features"]


def test_the_weights_of_the_file_may_be_declared_as_inputs(command, tmp_path):
    made = onnx_files.model(ir_version=3, opset=9)
    for tensor in made.graph.initializer:
        made.graph.input.append(onnx_files.value(tensor.name, list(tensor.dims)))
    path = onnx_files.write(tmp_path / "old.onnx", made)

    code, record = command.json("explain", path, "--methods", "gradient", "--out", tmp_path / "maps")

    assert code == 0
    assert "4 parameters declared as inputs are fixed" in record["changes"]


def test_probabilities_stay_the_output_and_their_logits_are_explained(command, tmp_path):
    path = onnx_files.write(tmp_path / "sure.onnx", onnx_files.with_tail("Softmax", sharp=40.0))

    code, record = command.json("explain", path, "--out", tmp_path / "maps")
    found = explained(tmp_path / "maps" / "explain.gradient.onnx")

    assert code == 0
    assert (record["explained"], record["output"]) == ("logits", "p")
    assert list(found) == ["explain", "p"]
    assert np.allclose(found["p"], run(path, x=X)["p"], atol=1e-6)
    best = onnx_files.logits(X).argmax(axis=1)
    # The probabilities are all but 0 and 1: their own derivative would be all but zero.
    assert found["p"].max(axis=1).min() > 0.99
    assert np.allclose(found["explain"], 40 * onnx_files.slope(X, best), rtol=1e-3, atol=1e-3)


def test_no_torch_is_loaded(net, tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['clearweight', 'explain', {str(net)!r}, '--out', {str(tmp_path / 'maps')!r}]\n"
        "from clearweight.cli.main import app\n"
        "try: app()\n"
        "except SystemExit as end: print(end.code, [m for m in sys.modules if m.startswith('torch.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.splitlines()[-1] == "0 []", found.stderr


def test_all_takes_what_works_and_says_why_the_rest_does_not(command, tmp_path):
    path = onnx_files.write(tmp_path / "gru.onnx", onnx_files.recurrent())

    code, record = command.json("explain", path, "--methods", "all", "--out", tmp_path / "maps")

    assert code == 0
    assert {"occlusion", "rise"} <= set(record["explainers"])
    assert "GRU" in record["not_applicable"]["gradient"]


def test_a_setting_reaches_its_method(command, net, tmp_path):
    code, record = command.json(
        "explain", net, "--methods", "occlusion", "--set", "occlusion.window=2", "--out", tmp_path / "maps"
    )

    assert code == 0
    assert record["explainers"]["occlusion"]["settings"]["window"] == 2


def test_a_layer_reaches_the_methods_that_explain_one(command, net, tmp_path):
    code, record = command.json(
        "explain", net, "--methods", "gradcam,gradient", "--layer", "features", "--out", tmp_path / "maps"
    )

    assert code == 0
    assert record["explainers"]["gradcam"]["layer"] == "features"
    assert record["explainers"]["gradient"]["layer"] is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--methods", "lime"], "unknown explainer 'lime'. Known: gradient"),
        (["--methods", ","], "unknown explainer ','"),
        (["--set", "gradient.sigma=1"], "no setting 'sigma'"),
        (["--set", "gradient"], "expected METHOD.SETTING=NUMBER"),
        (["--set", "occlusion.window=2"], "with a method of gradient, input_x_gradient"),
        (["--methods", "occlusion", "--set", "occlusion.window=wide"], "expected METHOD.SETTING=NUMBER"),
        (["--layer", "features"], "explain the input"),
        (["--methods", "gradcam", "--layer", "nowhere"], "nowhere"),
        (["--data", "nothing.npz"], "nothing.npz"),
    ],
)
def test_wrong_options_are_bad_input_and_write_nothing(command, net, tmp_path, arguments, text):
    found = command("explain", net, *arguments, "--out", tmp_path / "maps")

    assert found.exit_code == 2
    assert text in found.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx"}


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x": np.zeros((3, 2, 5, 6))}, "expected one array of shape (n, 2, 6, 6)"),
        ({"x": np.zeros((1, *onnx_files.SHAPE))}, "n at least 2"),
        ({"x": X, "y": X}, "expected one array"),
        ({"x": np.full(X.shape, np.nan)}, "not finite"),
    ],
)
def test_samples_that_do_not_fit_are_bad_input(command, net, tmp_path, arrays, text):
    np.savez(tmp_path / "samples.npz", **arrays)

    found = command("explain", net, "--data", tmp_path / "samples.npz", "--out", tmp_path / "maps")

    assert found.exit_code == 2
    assert text in found.stderr


def test_a_folder_that_is_there_is_replaced_on_request_and_only_if_it_is_ours(command, net, tmp_path):
    out = tmp_path / "maps"
    assert command("explain", net, "--out", out).exit_code == 0

    refused = command("explain", net, "--methods", "gradient", "--out", out)
    assert (refused.exit_code, len(list(out.iterdir()))) == (2, 3)
    assert "--overwrite" in refused.stderr

    replaced = command("explain", net, "--methods", "gradient", "--out", out, "--overwrite")
    assert replaced.exit_code == 0
    assert {path.name for path in out.iterdir()} == {"explain.gradient.onnx", "explain.json"}

    (out / "notes.txt").write_text("mine")
    kept = command("explain", net, "--out", out, "--overwrite")
    assert kept.exit_code == 2
    assert "notes.txt" in kept.stderr
    assert (out / "notes.txt").read_text() == "mine"


def test_a_graph_that_fails_its_verification_is_not_written_and_neither_is_any_other(
    command, net, tmp_path, monkeypatch
):
    from clearweight.exporter import own_model

    built = own_model.build

    def wrong(model, method, **settings):
        graph = built(model, method, **settings)
        if method == "input_x_gradient":
            (mul,) = (node for node in graph.model.graph.node if "explain" in node.output)
            mul.input[1] = mul.input[0]  # x times x
        return graph

    monkeypatch.setattr(own_model, "build", wrong)

    found = command("explain", net, "--out", tmp_path / "maps")

    assert found.exit_code == 1
    assert "Nothing was written" in found.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx"}


def test_the_same_model_gives_the_same_bytes(command, net, tmp_path):
    for name in ("a", "b"):
        command("explain", net, "--out", tmp_path / name)

    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
