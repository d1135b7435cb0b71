"""`clearweight explain-check`: sound files, strange files, broken files, each told what it is."""

import numpy as np
import onnx
import pytest

from tests.cli import onnx_files


@pytest.fixture
def checked(command, tmp_path):
    def check(made: onnx.ModelProto, *arguments):
        return command.json("explain-check", onnx_files.write(tmp_path / "net.onnx", made), *arguments)

    return check


def test_a_sound_classifier_can_be_explained(checked):
    code, found = checked(onnx_files.model())

    assert code == 0
    assert found["explainable"]
    assert (found["facts"]["opset"], found["facts"]["ir_version"]) == (17, 8)
    assert found["facts"]["parameters"] == sum(values.size for values in onnx_files.WEIGHTS.values())
    assert found["facts"]["inputs"] == ["x FLOAT[batch, 2, 6, 6]"]
    assert found["obstacles"] == []
    assert found["piecewise_linear"] is True
    assert all(
        found["methods"][method]["applicable"] for method in ("gradient", "input_x_gradient", "gradcam")
    )
    assert found["methods"]["gradcam"]["layer"]
    assert {"Conv", "ConvTranspose"} & set(found["backward"])
    for method in ("gradient", "input_x_gradient"):
        assert found["verification"][method]["cosine_to_float64"] > 0.9999
        assert found["verification"][method]["frozen_map"] == "passed"


def test_samples_of_ones_own_are_what_is_verified_on(checked, tmp_path):
    x = np.random.default_rng(1).random((5, *onnx_files.SHAPE))
    np.savez(tmp_path / "samples.npz", images=x, labels=np.arange(5))

    code, found = checked(onnx_files.model(), "--data", tmp_path / "samples.npz")

    assert code == 0
    assert found["verification"]["gradient"]["samples"] == 2


def test_every_node_in_the_way_is_named_and_the_methods_that_still_work(checked):
    code, found = checked(onnx_files.recurrent())

    assert code == 1
    assert [(entry["node"], entry["operator"].partition("-")[0]) for entry in found["obstacles"]] == [
        ("all_g", "GRU"),
        ("all_h", "GRU"),
    ]
    assert found["methods"]["gradient"]["applicable"] is False
    assert "GRU" in found["methods"]["gradient"]["reason"]
    assert found["methods"]["occlusion"]["applicable"]
    assert found["methods"]["rise"]["applicable"]


def test_a_use_that_its_rule_does_not_cover_is_in_the_way_too(checked):
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["fine"], "conv"),
        helper.make_node("Resize", ["fine", "", "half"], ["small"], "shrink", mode="linear", antialias=1),
        helper.make_node("Resize", ["small", "", "twice"], ["features"], "enlarge", mode="nearest"),
        *onnx_files.LAYERS[1:],
    ]
    scales = {"half": np.array([1, 1, 0.5, 0.5], np.float32), "twice": np.array([1, 1, 2, 2], np.float32)}
    weights = onnx_files.WEIGHTS | scales

    code, found = checked(onnx_files.model(nodes, weights=weights, opset=18))

    assert code == 1
    (obstacle,) = found["obstacles"]
    assert obstacle["operator"].startswith("Resize")
    assert "antialias" in obstacle["reason"]


def test_what_stops_every_gradient_is_named(checked):
    code, found = checked(onnx_files.stopped())

    assert code == 1
    assert [entry["operator"].partition("-")[0] for entry in found["obstacles"]] == ["Round"]
    assert found["methods"]["occlusion"]["applicable"]


@pytest.mark.parametrize("tail", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_probabilities_at_the_end_are_told_and_the_logits_before_them_are_checked(checked, tail):
    code, found = checked(onnx_files.with_tail(tail))

    assert code == 0
    assert any(f"before the final {tail}" in change for change in found["changes"])


@pytest.mark.parametrize(
    ("strange", "text"),
    [
        ("two_inputs", "2 inputs"),
        ("detector", "expected logits of shape (N, classes)"),
        ("segmentation", "expected logits of shape (N, classes)"),
        ("flat_logits", "expected logits of shape (N, classes)"),
        ("fixed_batch", "fixes"),
        ("token_input", "INT64"),
        ("custom", "my.ops::Bend"),
    ],
)
def test_what_is_no_classifier_is_refused_by_name(checked, strange, text):
    code, found = checked(onnx_files.STRANGE[strange]())

    assert code == 1
    assert text in found["refused"]
    assert not found["explainable"]


def test_a_refused_model_still_lists_its_operators_without_a_rule(checked):
    _, found = checked(onnx_files.custom())

    assert [(entry["node"], entry["operator"]) for entry in found["obstacles"]] == [("bend", "my.ops::Bend")]


def test_the_summary_names_every_method_and_ends_in_a_verdict(command, tmp_path):
    path = onnx_files.write(tmp_path / "net.onnx", onnx_files.recurrent())

    found = command("explain-check", path)

    assert found.exit_code == 1
    assert "in the way   GRU" in found.stdout
    assert found.stdout.splitlines()[-1].startswith(
        "Cannot be explained by its gradient. What works: occlusion"
    )


def broken(tmp_path, kind):
    path = tmp_path / "net.onnx"
    whole = onnx_files.model().SerializeToString()
    if kind == "text":
        path.write_text("not a model\n" * 20)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "no_nodes":
        path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    elif kind == "folder":
        path.mkdir()
    elif kind in ("lost", "outside"):
        model = onnx_files.model()
        onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        if kind == "lost":
            (tmp_path / "weights.bin").unlink()
        else:
            held = onnx.load(path, load_external_data=False)
            for tensor in held.graph.initializer:
                next(
                    entry for entry in tensor.external_data if entry.key == "location"
                ).value = "../../etc/passwd"
            path.write_bytes(held.SerializeToString())
    elif kind == "dangling":
        model = onnx_files.model()
        model.graph.node[1].input[0] = "nobody"
        path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text", "no ONNX file"),
        ("empty", "no ONNX model"),
        ("truncated", "or only a part of one"),
        ("no_nodes", "0 nodes"),
        ("folder", "is a folder"),
        ("lost", "'weights.bin', which cannot be read"),
        ("outside", "'../../etc/passwd', which cannot be read"),
        ("dangling", "nobody"),
        ("missing", "No such file"),
    ],
)
@pytest.mark.parametrize("verb", ["explain-check", "explain"])
def test_a_broken_file_is_bad_input(command, tmp_path, verb, kind, text):
    path = broken(tmp_path, kind)
    rest = ["--out", tmp_path / "out"] if verb == "explain" else []

    found = command(verb, path, *rest)

    assert found.exit_code == 2
    assert text in found.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_with_its_weights_beside_it_is_read_whole(command, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save_model(
        onnx_files.model(), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )

    code, found = command.json("explain-check", path)

    assert code == 0
    assert found["facts"]["parameters"] == sum(values.size for values in onnx_files.WEIGHTS.values())
