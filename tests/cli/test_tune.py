"""`clearweight tune`: a profile that an export takes up, and that changes graphs but no map."""

import json
import shutil

import numpy as np
import pytest

from clearweight.exporter.device_profile import FAMILIES, DeviceProfile, read_profile
from clearweight.exporter.errors import RecipeError
from clearweight.exporter.explain import build
from clearweight.exporter.graph import session
from tests.cli.conftest import Command


@pytest.fixture(scope="module")
def profile_of(exported, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "device.json"
    found = Command()("tune", exported.path, "--out", out, "--seconds", 0)
    return found, out


def test_every_choice_of_the_network_is_timed_and_kept(profile_of):
    found, out = profile_of

    assert found.exit_code == 0
    content = json.loads(out.read_text())
    assert content["machine"]["onnxruntime"]
    assert (content["threads"], content["batch"]) == (1, 1)
    timed = {f"{f} {kind}" for f in FAMILIES for kind in content[f]}
    assert timed
    for line in found.stdout.splitlines()[:-1]:
        assert " ".join(line.split()[:2]) in timed
        assert line.count(" ms") == 2
    assert not list(out.parent.glob("*.partial"))


def test_a_profile_changes_the_graph_and_not_the_map(exported):
    model = exported.compressed.predict
    content = {"machine": {}, "threads": 1, "batch": 1}
    forced = [
        content | {"convolution": {"dense_unblocked": {"transposed": 1.0, "flipped": cost}}}
        for cost in (0.5, 2.0)
    ]
    x = exported.prepared.inputs(exported.prepared.splits.validation).numpy()[:3]
    graphs, maps = [], []
    for one in forced:
        graph = build(model, "gradient", costs=DeviceProfile.model_validate(one).costs()).model
        graphs.append([node.op_type for node in graph.graph.node])
        feed = {model.graph.input[0].name: x, "target": np.full(3, -1)}
        maps.append(session(graph).run(["explain"], feed)[0])

    assert "ConvTranspose" not in graphs[0]
    assert "ConvTranspose" in graphs[1]
    np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no JSON", "cannot be read"),
        ('{"machine": {}, "threads": 1}', "batch"),
        ('{"machine": {}, "threads": 1, "batch": 1, "pooling": {"huge": {"match": 1}}}', "no class 'huge'"),
        (
            '{"machine": {}, "threads": 1, "batch": 1, "pooling": {"small": {"match": 1}}}',
            "expected unpool, match",
        ),
        ('{"machine": {}, "threads": 1, "batch": 1, "speed": 9}', "speed"),
    ],
)
def test_a_wrong_profile_is_refused_by_key(tmp_path, content, says):
    path = tmp_path / "device.json"
    path.write_text(content)

    with pytest.raises(RecipeError, match=says):
        read_profile(path)


def test_several_artifacts_are_one_too_many(command, tiny, tmp_path):
    shutil.copytree(tiny / "tiny" / "1", tiny / "other" / "1")
    out = tmp_path / "device.json"

    found = command("tune", tiny, "--out", out)

    assert found.exit_code == 2
    assert "2 artifacts, expected one" in found.stderr
    assert not out.exists()
