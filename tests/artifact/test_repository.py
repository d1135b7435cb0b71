import pytest

from clearweight.artifact import find_artifacts
from clearweight.artifact.errors import NotAnArtifactError
from tests.artifact.samples import written


def test_every_level_of_a_repository_is_accepted(tmp_path):
    path = written(tmp_path)

    assert (
        find_artifacts(tmp_path) == find_artifacts(tmp_path / "tiny") == find_artifacts(str(path)) == [path]
    )


def test_versions_are_sorted_as_numbers_and_models_by_name(tmp_path):
    for name, version in (("b", "10"), ("b", "9"), ("a", "v2"), ("a", "v10")):
        written(tmp_path, name=name, version=version)
    found = [f"{path.parent.name}/{path.name}" for path in find_artifacts(tmp_path)]

    assert found == ["a/v2", "a/v10", "b/9", "b/10"]


def test_companions_hidden_folders_and_other_files_are_no_versions(tmp_path):
    path = written(tmp_path)
    for name in ("1-reference", "1-onnx", ".1.partial-00000000", "notes"):
        (path.parent / name).mkdir()
    for name in ("1-reference", "1-onnx", ".1.partial-00000000"):
        (path.parent / name / "manifest.json").write_bytes(b"")
    (tmp_path / ".git").mkdir()
    (tmp_path / "README").write_text("x")

    assert find_artifacts(tmp_path) == [path]


def test_a_reference_is_found_when_it_is_named(tmp_path):
    path = written(tmp_path, variant="reference")

    assert find_artifacts(path) == [path]
    with pytest.raises(NotAnArtifactError):
        find_artifacts(tmp_path)


def test_an_empty_or_missing_folder_and_a_file_are_told_apart(tmp_path):
    file = tmp_path / "sub" / "model.onnx"
    file.parent.mkdir()
    file.touch()
    cases = {tmp_path: "No artifact below", tmp_path / "nowhere": "There is no folder", file: "explain-check"}

    for place, says in cases.items():
        with pytest.raises(NotAnArtifactError, match=says):
            find_artifacts(place)
