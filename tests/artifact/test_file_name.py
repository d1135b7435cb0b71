import pytest

from clearweight.artifact.errors import FileNameError
from clearweight.artifact.file_name import FILE_LIMITS, check_file_name, check_model_name, check_version


@pytest.mark.parametrize("name", [*FILE_LIMITS, "explain.gradcam.onnx", "explain.input_x_gradient.onnx"])
def test_the_files_of_spec_1_are_accepted_with_a_limit(name):
    assert check_file_name(name) > 0


@pytest.mark.parametrize(
    "name",
    ["", "..", "../predict.onnx", "/predict.onnx", "a/predict.onnx", "explain..onnx", "explain.A.onnx",
     "explain.a.onnx\n", "explain." + "a" * 41 + ".onnx", "explain.../x.onnx", "predict.onnx ", "Predict.onnx"],
)  # fmt: skip
def test_no_other_file_is(name):
    with pytest.raises(FileNameError):
        check_file_name(name)


@pytest.mark.parametrize("check", [check_model_name, check_version])
def test_folder_names_are_plain(check):
    for name in ("digits", "1", "v1.2-rc_3", "A" * 64):
        check(name)
    for name in ("", ".hidden", "-x", "a/b", "a..b", "a b", "A" * 65, "é", "1\n"):
        with pytest.raises(FileNameError):
            check(name)


@pytest.mark.parametrize("version", ["1-reference", "1-onnx"])
def test_a_version_is_no_companion(version):
    with pytest.raises(FileNameError):
        check_version(version)
