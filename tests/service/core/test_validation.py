import numpy as np
import pytest

from clearweight.artifact import TensorSpec
from clearweight.service import InvalidRequestError, Limits, TooLargeError
from clearweight.service.core.types import Tensor
from clearweight.service.core.validation import check_inputs, check_outputs, check_parameters, check_shape

SPECS = (TensorSpec("a", "FP32", (-1, 3)), TensorSpec("b", "FP32", (-1, 2)))


def tensor(name, shape, datatype="FP32"):
    return Tensor(name, datatype, np.zeros(shape, np.float32))


def test_inputs_come_back_in_the_models_order():
    feed = check_inputs(SPECS, [tensor("b", (5, 2)), tensor("a", (5, 3))])

    assert list(feed) == ["a", "b"]


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ([("a", (1, 3))], "missing"),
        ([("a", (1, 3)), ("c", (1, 2))], "missing"),
        ([("a", (1, 3)), ("b", (1, 2)), ("c", (1, 2))], "Unknown input 'c'"),
        ([("a", (1, 3)), ("a", (1, 3)), ("b", (1, 2))], "twice"),
        ([("a", (1, 4)), ("b", (1, 2))], r"\[1, 4\], expected \[N, 3\]"),
        ([("a", (3,)), ("b", (1, 2))], "expected"),
        ([("a", (0, 3)), ("b", (0, 2))], "expected"),
        ([("a", (2, 3)), ("b", (1, 2))], "batch"),
    ],
)
def test_inputs_that_contradict_the_metadata_are_refused(tensors, text):
    with pytest.raises(InvalidRequestError, match=text):
        check_inputs(SPECS, [tensor(*given) for given in tensors])


def test_another_datatype_is_refused_unless_it_is_the_raw_one():
    given = [Tensor("a", "UINT8", np.zeros((1, 3), np.uint8))]

    with pytest.raises(InvalidRequestError, match="UINT8, expected FP32"):
        check_inputs(SPECS[:1], given)
    assert check_inputs(SPECS[:1], given, raw_datatype="UINT8")["a"].dtype == np.uint8


@pytest.mark.parametrize("shape", [[0], [-1], [1, 0], [], "3", [1.0], [True], None, {}])
def test_shapes_are_positive_integers(shape):
    with pytest.raises(InvalidRequestError):
        check_shape("a", shape, Limits())


def test_a_huge_shape_is_refused_by_arithmetic_alone():
    with pytest.raises(TooLargeError):
        check_shape("a", [2**31, 2**31, 2**31], Limits())


def test_parameters_are_scalars_and_unknown_keys_pass():
    assert check_parameters({"x": 1, "y": "z", "w": 0.5, "v": True}, "the request")["y"] == "z"
    for bad in ({"x": []}, {"x": {}}, {"x": None}, []):
        with pytest.raises(InvalidRequestError):
            check_parameters(bad, "the request")


def test_outputs_are_known_and_unique():
    assert check_outputs(["p", "q"], None) == ["p", "q"]
    assert check_outputs(["p", "q"], ["q"]) == ["q"]
    for bad in (["r"], ["p", "p"]):
        with pytest.raises(InvalidRequestError):
            check_outputs(["p", "q"], bad)
