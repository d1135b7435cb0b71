"""`clearweight verify`: intact artifacts pass, a changed one is told by the reason."""

import subprocess
import sys

import numpy as np
import pytest

from tests.service import artifacts


def test_an_intact_artifact_and_its_reference_pass(command, tiny):
    code, findings = command.json("verify", tiny)

    assert code == 0
    assert [f["variant"] for f in findings] == ["compressed", "reference"]
    assert all(f["state"] == "passed" and f["integrity"]["state"] == "passed" for f in findings)
    assert set(findings[0]["graphs"]) == {"predict", *artifacts.METHODS}
    assert findings[0]["fidelity"]["state"] == "passed"


@pytest.mark.parametrize("level", ["", "tiny", "tiny/1"])
def test_every_level_of_a_repository_is_accepted(command, tiny, level):
    found = command("verify", tiny / level)

    assert found.exit_code == 0
    assert found.stdout.count("intact") == 2


@pytest.mark.parametrize("name", ["manifest.json", "predict.onnx", "weights.cwt", "canaries.safetensors"])
def test_one_changed_byte_fails_with_a_named_reason(command, tiny, name):
    path = tiny / "tiny" / "1" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    code, findings = command.json("verify", tiny)

    assert code == 1
    assert [f["state"] for f in findings] == ["failed", "passed"]
    assert findings[0]["reason"].partition(":")[0].endswith("Error")


def test_other_weights_than_the_canaries_saw_fail_integrity(command, tmp_path):
    stored = artifacts.pruned(artifacts.network(), 0.6)
    artifacts.write(tmp_path, stored=stored)

    found = command("verify", tmp_path)

    assert found.exit_code == 1
    assert "FAILED" in found.stdout
    assert "Integrity: Logits differ by" in found.stdout


def test_a_low_fidelity_is_shown_and_is_no_damage(command, tmp_path):
    artifacts.write(tmp_path, share=0.7, budget=0.99)

    found = command("verify", tmp_path)

    assert found.exit_code == 0
    assert "fidelity failed" in found.stdout


def test_where_there_is_no_artifact_is_bad_input(command, tmp_path):
    found = command("verify", tmp_path)

    assert found.exit_code == 2
    assert "No artifact below" in found.stderr


def test_an_explain_graph_of_another_shape_than_stated_fails(command, tmp_path):
    from dataclasses import replace

    def change(manifest):
        gradient = replace(manifest.explainers["gradient"], map_shape=(-1, 1, 4, 4))
        return replace(manifest, explainers=manifest.explainers | {"gradient": gradient})

    artifacts.write(tmp_path, change=change)

    code, findings = command.json("verify", tmp_path)

    assert code == 1
    assert "explain.gradient.onnx returns a map of shape (16, 1, 8, 8)" in findings[0]["reason"]


def test_the_verification_of_every_graph_is_repeated_beside_what_the_manifest_states(command, tiny):
    _, findings = command.json("verify", tiny)

    for finding in findings:
        assert set(finding["verification"]) == set(artifacts.METHODS)
        for entry in finding["verification"].values():
            assert (entry["kind"], entry["problem"]) == ("float64", "")
            assert entry["found"]["cosine_to_float64"] > 0.9999
            assert entry["found"]["frozen_map"] == entry["stated"]["frozen_map"] == "passed"
    assert findings[0]["verification"]["input_x_gradient"]["completeness_error_max"] < 1e-4


def test_what_onnx_runtime_alone_can_repeat_is_repeated_and_said(command, tiny):
    _, findings = command.json("verify", tiny, "--runtime-only")
    found = command("verify", tiny, "--runtime-only")

    for finding in findings:
        for method, entry in finding["verification"].items():
            assert (entry["kind"], entry["problem"], entry["found"]) == ("runtime", "", None)
            assert (entry["follows_input"], entry["follows_target"]) == (True, True)
            assert (entry["completeness_error_max"] is None) is (method == "gradient")
    assert "on ONNX Runtime alone: map follows input and target" in found.stdout


def test_without_onnx_the_rest_is_verified_all_the_same(tiny):
    code = (
        "import sys, importlib.util\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name.startswith('onnx.') or name == 'onnx' "
        "else found(name, *rest)\n"
        f"sys.argv = ['clearweight', 'verify', {str(tiny)!r}]\n"
        "from clearweight.cli.main import app\n"
        "try: app()\n"
        "except SystemExit as end: print(end.code, 'onnx' in sys.modules, 'clearweight.exporter' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "on ONNX Runtime alone" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 False False"


@pytest.mark.parametrize(
    ("mode", "text"),
    [([], "finite differences"), (["--runtime-only"], "one map for every input and every class")],
)
def test_a_frozen_map_fails_even_if_everything_else_agrees(command, tmp_path, mode, text):
    """A graph whose map was traced: constant, whatever comes in; its logits are right and it is not the default."""
    from dataclasses import replace

    import onnx

    made = onnx.load_model_from_string(
        artifacts.explain_graph(artifacts.pruned(artifacts.network(), 0.2), "gradient")
    )
    last = next(node for node in made.graph.node if "explain" in node.output)
    last.output[0] = "true_map"
    ones = onnx.numpy_helper.from_array(np.ones((1, *artifacts.SHAPE), np.float32), "traced.value")
    made.graph.node.extend(
        [
            onnx.helper.make_node("Constant", [], ["traced"], value=ones),
            onnx.helper.make_node("Shape", ["true_map"], ["as_large"]),
            onnx.helper.make_node("Expand", ["traced", "as_large"], ["explain"]),
        ]
    )
    stated = artifacts.record_of("gradient")
    graph = replace(stated, file="explain.gradient.onnx")
    artifacts.write(
        tmp_path,
        explainers=("input_x_gradient",),
        more={"gradient": (graph, made.SerializeToString())},
        calibration=20,
    )

    code, findings = command.json("verify", tmp_path, *mode)

    assert code == 1
    assert text in findings[0]["reason"]


def test_verifying_needs_no_torch(tiny):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"from clearweight.cli.verify import examine; print(examine({str(tiny / 'tiny' / '1')!r})['state'])"
    )
    code = code.replace("examine('", "examine(__import__('pathlib').Path('").replace("')['", "'))['")

    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "passed\n"
    )


def test_a_real_export_is_intact(command, models):
    code, findings = command.json("verify", models)

    assert code == 0
    assert set(findings[0]["graphs"]) == {"predict", "gradient", "input_x_gradient", "gradcam"}
    assert np.isfinite(findings[0]["integrity"]["logits_error"])
