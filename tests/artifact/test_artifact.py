import os
import shutil
from dataclasses import replace

import pytest

from clearweight.artifact import (
    Artifact,
    WeightsReader,
    canary_from_bytes,
    manifest_from_bytes,
    manifest_to_bytes,
)
from clearweight.artifact.errors import (
    ArtifactError,
    FieldValueError,
    FileDigestError,
    FileNameError,
    FileSizeError,
    FileTooLargeError,
    LinkError,
    ManifestDigestError,
    MissingFileError,
    NotAnArtifactError,
    SizeLimitError,
    SurplusFileError,
    UnfinishedError,
)
from tests.artifact.samples import named, network, packed, same_bits, written


@pytest.fixture
def path(tmp_path):
    return written(tmp_path)


def reseal(path, **changes):
    """Write another manifest with a right seal."""
    made = manifest_from_bytes((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_bytes(manifest_to_bytes(replace(made, **changes)))


def test_an_artifact_gives_back_what_was_written(path):
    artifact = Artifact.open(path)

    assert artifact.path == path
    assert artifact.manifest.name == "tiny"
    assert artifact.graph("predict.onnx") == b"graph"
    assert artifact.graph("explain.gradient.onnx") == b"another graph"
    assert artifact.canaries().count == 3
    tensors = dict(artifact.weights().tensors())
    assert all(same_bits(tensors[tensor.name], tensor.values) for tensor in network())


def test_device_bytes_count_every_file_but_the_report(path):
    sizes = {file.name: file.stat().st_size for file in path.iterdir()}

    assert Artifact.open(path).device_bytes == sum(sizes.values()) - sizes["report.html"]
    assert sizes["weights.cwt"] == Artifact.open(path).manifest.ledger.packed_bytes


def test_every_parameter_is_in_exactly_one_counted_file(path):
    artifact = Artifact.open(path)
    rows = {row.name: row.shape for row in artifact.manifest.ledger.rows}

    assert rows == {tensor.name: tensor.values.shape for tensor in network()}
    assert rows == {record.name: record.shape for record in artifact.weights().records}


@pytest.mark.parametrize(
    "name", ["weights.cwt", "predict.onnx", "explain.gradient.onnx", "canaries.safetensors", "report.html"]
)
def test_each_changed_cut_or_missing_file_is_found(path, name):
    file = path / name
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(FileDigestError):
        Artifact.open(path)
    file.write_bytes(data[:-1])
    with pytest.raises(FileSizeError):
        Artifact.open(path, verify=False)
    file.unlink()
    with pytest.raises(MissingFileError):
        Artifact.open(path, verify=False)


def test_every_changed_byte_of_the_manifest_is_found(path):
    file = path / "manifest.json"
    data = file.read_bytes()
    for place in range(0, len(data), 97):
        file.write_bytes(data[:place] + bytes([data[place] ^ 2]) + data[place + 1 :])
        with pytest.raises(ArtifactError) as caught:
            Artifact.open(path)
        assert named(caught.value)


@pytest.mark.parametrize("name", ["notes.txt", "explain.gradcam.onnx", ".hidden", "weights.cwt.bak", "..."])
def test_a_surplus_file_is_refused(path, name):
    (path / name).write_bytes(b"x")
    with pytest.raises(SurplusFileError):
        Artifact.open(path, verify=False)


def test_a_report_that_is_not_listed_is_surplus(path):
    artifact = Artifact.open(path)
    reseal(path, files={k: v for k, v in artifact.manifest.files.items() if k != "report.html"})
    with pytest.raises(SurplusFileError):
        Artifact.open(path)
    (path / "report.html").unlink()
    assert Artifact.open(path).device_bytes > 0


@pytest.mark.parametrize("name", ["weights.cwt", "manifest.json", "report.html"])
def test_links_folders_and_pipes_are_refused(path, name, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (path / name).rename(elsewhere)
    (path / name).symlink_to(elsewhere)
    with pytest.raises(LinkError):
        Artifact.open(path)
    (path / name).unlink()
    (path / name).mkdir()
    with pytest.raises(LinkError):
        Artifact.open(path)
    (path / name).rmdir()
    os.mkfifo(path / name)
    with pytest.raises(LinkError):
        Artifact.open(path)


def test_a_surplus_folder_or_dangling_link_is_refused(path):
    (path / "folder").mkdir()
    with pytest.raises(LinkError):
        Artifact.open(path)
    (path / "folder").rmdir()
    (path / "link").symlink_to("nowhere")
    with pytest.raises(LinkError):
        Artifact.open(path)


def test_a_huge_file_is_refused_before_it_is_read(path):
    with (path / "manifest.json").open("r+b") as file:
        file.truncate(17 << 20)  # sparse: takes no disk
    with pytest.raises(FileTooLargeError):
        Artifact.open(path)


def test_what_is_no_artifact_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NotAnArtifactError):
            Artifact.open(place)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotAnArtifactError):
        Artifact.open(tmp_path / "file")


def test_what_an_interrupted_write_left_does_not_open(path):
    left = path.with_name(".1.partial-0a1b2c3d")
    shutil.copytree(path, left)
    with pytest.raises(UnfinishedError):
        Artifact.open(left)


def test_a_copy_elsewhere_opens(path, tmp_path):
    shutil.copytree(path, tmp_path / "anywhere")

    assert Artifact.open(tmp_path / "anywhere").manifest == Artifact.open(path).manifest


def test_graphs_are_checked_again_when_they_are_read(path):
    artifact = Artifact.open(path)
    (path / "predict.onnx").write_bytes(b"GRAPH")
    with pytest.raises(FileDigestError):
        artifact.graph("predict.onnx")
    (path / "predict.onnx").write_bytes(b"longer graph")
    with pytest.raises(FileSizeError):
        artifact.graph("predict.onnx")
    (path / "weights.cwt").write_bytes((path / "weights.cwt").read_bytes()[:-1] + b"\x00")
    with pytest.raises(FileDigestError):
        artifact.weights()


@pytest.mark.parametrize("name", ["weights.cwt", "../predict.onnx", "explain.gradcam.onnx", "report.html"])
def test_only_listed_graphs_are_graphs(path, name):
    with pytest.raises(FileNameError, match=r"Graphs: explain.gradient.onnx, predict.onnx"):
        Artifact.open(path).graph(name)


def test_weights_that_are_not_the_ledgers_are_refused(path):
    artifact = Artifact.open(path)
    ledger = artifact.manifest.ledger
    one, other = ledger.rows[0], ledger.rows[1]
    renamed = replace(ledger, rows=(replace(one, name="x"), *ledger.rows[1:]))
    fewer = replace(ledger, rows=ledger.rows[:-1], overhead_bytes=ledger.overhead_bytes + ledger.rows[-1].bytes,
                    reference_bytes=ledger.reference_bytes - 4 * ledger.rows[-1].parameters)  # fmt: skip
    moved = replace(
        ledger,
        rows=(replace(one, bytes=one.bytes + 1), replace(other, bytes=other.bytes - 1), *ledger.rows[2:]),
    )
    for lie in (renamed, fewer, moved):
        reseal(path, ledger=lie)
        with pytest.raises(FieldValueError):
            Artifact.open(path).weights()


def test_weights_larger_than_the_ledger_are_refused(path):
    empty = replace(Artifact.open(path).manifest.ledger, rows=(), reference_bytes=0)
    reseal(path, ledger=replace(empty, overhead_bytes=empty.packed_bytes))
    with pytest.raises(SizeLimitError):
        Artifact.open(path).weights()


def test_the_number_of_probes_is_the_manifests(path):
    artifact = Artifact.open(path)
    reseal(path, canaries=replace(artifact.manifest.canaries, count=4))
    with pytest.raises(FieldValueError, match="holds 3 probes, the manifest states 4"):
        Artifact.open(path).canaries()


def test_a_manifest_with_a_broken_seal_is_found_before_any_other_file_is_read(path):
    data = (path / "manifest.json").read_bytes()
    (path / "manifest.json").write_bytes(data.replace(b"tiny", b"tidy", 1))
    (path / "predict.onnx").unlink()
    with pytest.raises(ManifestDigestError):
        Artifact.open(path)


def test_the_files_are_those_the_parts_write_by_themselves(path):
    assert (path / "weights.cwt").read_bytes() == packed(network())
    assert WeightsReader(path / "weights.cwt").records == Artifact.open(path).weights().records
    assert canary_from_bytes((path / "canaries.safetensors").read_bytes()).count == 3
