"""SPEC.md section 7: what a signature vouches for, and what is refused without a right one."""

import shutil
from dataclasses import replace

import pytest

from clearweight.artifact import Artifact, manifest_to_bytes
from clearweight.artifact.errors import ArtifactError, FileDigestError, ManifestDigestError, SignatureError
from clearweight.artifact.signature import sign
from tests import keys
from tests.artifact import samples


@pytest.fixture
def artifact(tmp_path):
    return samples.written(tmp_path)


@pytest.fixture(scope="module")
def pair():
    return keys.pair()


def test_a_signed_artifact_opens_with_the_key_and_without(artifact, pair):
    private, public = pair
    path = sign(artifact, private)

    assert path == artifact / "manifest.sig"
    assert path.stat().st_size == 64
    Artifact.open(artifact, public_key=public)
    Artifact.open(artifact)
    assert sorted(artifact.parent.iterdir()) == [artifact]


def test_a_signature_is_the_same_each_time_and_changes_no_other_file(artifact, pair):
    before = {file.name: file.read_bytes() for file in artifact.iterdir()}
    first = sign(artifact, pair[0]).read_bytes()
    assert sign(artifact, pair[0]).read_bytes() == first
    assert {file.name: file.read_bytes() for file in artifact.iterdir()} == before | {"manifest.sig": first}


def test_an_unsigned_artifact_is_refused_where_a_signature_is_required(artifact, pair):
    with pytest.raises(SignatureError, match="not signed"):
        Artifact.open(artifact, public_key=pair[1])


def test_another_keys_signature_is_refused(artifact, pair):
    sign(artifact, keys.pair()[0])
    with pytest.raises(SignatureError, match="required key"):
        Artifact.open(artifact, public_key=pair[1])


def test_any_change_of_any_file_is_found(artifact, pair, tmp_path):
    sign(artifact, pair[0])
    for name in sorted(file.name for file in artifact.iterdir()):
        changed = tmp_path / "changed" / name / "1"
        shutil.copytree(artifact, changed)
        data = bytearray((changed / name).read_bytes())
        data[len(data) // 2] ^= 1
        (changed / name).write_bytes(data)
        expected = SignatureError if name.startswith("manifest") else FileDigestError
        with pytest.raises(expected):
            Artifact.open(changed, public_key=pair[1])


def test_a_resealed_manifest_is_refused_although_its_own_digest_is_right(artifact, pair):
    sign(artifact, pair[0])
    manifest = artifact / "manifest.json"
    told = Artifact.open(artifact).manifest
    manifest.write_bytes(manifest_to_bytes(replace(told, environment={"by": "somebody else"})))

    Artifact.open(artifact)
    with pytest.raises(SignatureError):
        Artifact.open(artifact, public_key=pair[1])


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_is_refused(artifact, pair, length):
    sign(artifact, pair[0])
    (artifact / "manifest.sig").write_bytes(bytes(length))
    with pytest.raises(ArtifactError):
        Artifact.open(artifact, public_key=pair[1])


def test_nothing_of_an_unsigned_manifest_is_read(artifact, pair):
    sign(artifact, keys.pair()[0])
    (artifact / "manifest.json").write_bytes(b"{")
    with pytest.raises(SignatureError):
        Artifact.open(artifact, public_key=pair[1])
    with pytest.raises(ArtifactError) as found:
        Artifact.open(artifact)
    assert not isinstance(found.value, (SignatureError, ManifestDigestError))


def test_keys_of_other_kinds_and_no_keys_are_refused(artifact, pair):
    private, public = keys.rsa_pair()
    for bad in (private, b"", b"-----BEGIN PRIVATE KEY-----\n", pair[1]):
        with pytest.raises(SignatureError, match="Ed25519"):
            sign(artifact, bad)
    sign(artifact, pair[0])
    for bad in (public, b"", pair[0]):
        with pytest.raises(SignatureError, match="Ed25519"):
            Artifact.open(artifact, public_key=bad)
