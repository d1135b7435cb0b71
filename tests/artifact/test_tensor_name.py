import pytest

from clearweight.artifact.errors import TensorNameError
from clearweight.artifact.tensor_name import check_tensor_name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 201,
        "/etc/passwd",
        "../x",
        "a/../b",
        "a/./b",
        "a//b",
        "a/",
        "..",
        ".",
        "a\\b",
        "a b",
        "a\x00",
        "é",
        "a\n",
    ],
)
def test_names_of_other_forms_are_refused(name):
    with pytest.raises(TensorNameError):
        check_tensor_name(name)


@pytest.mark.parametrize(
    "name", ["conv1.weight", "a" * 200, "layer/0/w", "onnx::Conv_1", "...", "a..b", "!~"]
)
def test_names_of_networks_are_accepted(name):
    check_tensor_name(name)
