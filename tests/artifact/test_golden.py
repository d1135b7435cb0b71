"""Files written once and never again; every later reader must open them (SPEC.md, first paragraph).

``golden/v1`` is one artifact; ``v1.npz`` beside it holds its tensors as numpy wrote them. To see that the
writer still gives these bytes is the second half: a change there is a change of the format.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clearweight.artifact import Artifact, CodedTensor, WeightsReader, write_artifact
from clearweight.artifact.record import Support, Values
from tests.artifact.samples import packed, same_bits

GOLDEN = Path(__file__).parent / "golden"
WEIGHTS_SHA256 = "a57f27cd774502dc16c0a610e67c471932f86ce41254251444bc45a4d4d1648e"
MANIFEST_SHA256 = "fb17cfd439cc12a17cea9837bb645e803769bf7335696bd5064bda5178f56848"


@pytest.mark.parametrize("version", [path.name for path in sorted(GOLDEN.iterdir()) if path.is_dir()])
def test_every_golden_artifact_still_opens_with_the_same_content(version):
    artifact = Artifact.open(GOLDEN / version)
    expected = np.load(GOLDEN / f"{version}.npz")
    tensors = dict(artifact.weights().tensors())

    assert set(tensors) == set(expected.files)
    assert all(same_bits(tensors[name], expected[name]) for name in expected.files)
    assert artifact.canaries().to_bytes() == (GOLDEN / version / "canaries.safetensors").read_bytes()
    assert artifact.manifest.labels[0] == "zéro"


def test_the_golden_files_are_the_ones_that_were_frozen():
    for name, digest in (("weights.cwt", WEIGHTS_SHA256), ("manifest.json", MANIFEST_SHA256)):
        assert hashlib.sha256((GOLDEN / "v1" / name).read_bytes()).hexdigest() == digest


def test_the_golden_weights_take_every_kind_of_support_and_value_code():
    forms = [record.form for record in WeightsReader(GOLDEN / "v1" / "weights.cwt").records]

    assert {form.support for form in forms} >= {
        Support.DENSE,
        Support.GAPS,
        Support.GAPS_HUFFMAN,
        Support.MASK,
    }
    assert {form.values for form in forms} == set(Values) - {Values.CODEBOOK_RANGE}
    assert any(form.walk for form in forms)


def test_the_writer_still_gives_the_frozen_bytes(tmp_path):
    expected = np.load(GOLDEN / "v1.npz")
    assert (
        packed([CodedTensor(name, expected[name]) for name in expected.files])
        == (GOLDEN / "v1" / "weights.cwt").read_bytes()
    )

    golden = Artifact.open(GOLDEN / "v1").manifest
    contents = {name: GOLDEN / "v1" / name for name in golden.files}
    for file in write_artifact(tmp_path, replace(golden, files={}, manifest_sha256=""), contents).iterdir():
        assert file.read_bytes() == (GOLDEN / "v1" / file.name).read_bytes(), file.name
