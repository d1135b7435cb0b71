import numpy as np
import pytest

from clearweight.artifact import CodedTensor
from clearweight.artifact.errors import CodedTensorError, TensorNameError

BOOK = np.array([0.0, 1.5], dtype=np.float32)
INDICES = np.array([0, 1], dtype=np.uint8)


def test_a_tensor_equal_to_its_code_is_valid():
    CodedTensor("w", BOOK[INDICES], BOOK, INDICES).validate()
    CodedTensor("w", np.zeros(3, dtype=">f4")).validate()


@pytest.mark.parametrize(
    "tensor",
    [
        CodedTensor("w", np.zeros(2, dtype=bool)),
        CodedTensor("w", np.zeros(2, dtype=np.complex64)),
        CodedTensor("w", BOOK[INDICES], BOOK, None),
        CodedTensor("w", BOOK[INDICES], None, INDICES),
        CodedTensor("w", BOOK[INDICES].astype(np.float64), BOOK, INDICES),
        CodedTensor("w", BOOK[INDICES], BOOK, INDICES.reshape(1, 2)),
        CodedTensor("w", BOOK[INDICES], BOOK.reshape(1, 2), INDICES),
        CodedTensor("w", BOOK[INDICES], np.zeros(257, dtype=np.float32), INDICES),
        CodedTensor("w", BOOK[INDICES], BOOK, INDICES + np.uint8(1)),
        CodedTensor("w", np.array([-0.0, 1.5], dtype=np.float32), BOOK, INDICES),
        CodedTensor("w", np.array([0.0, 1.25], dtype=np.float32), BOOK, INDICES),
    ],
    ids=lambda tensor: f"{tensor.values.dtype}-{tensor.values.tolist()}",
)
def test_a_tensor_that_contradicts_itself_is_refused(tensor):
    with pytest.raises(CodedTensorError):
        tensor.validate()


def test_the_message_names_the_first_wrong_value():
    values = BOOK[INDICES].copy()
    values[1] = 9
    with pytest.raises(CodedTensorError, match=r"'w' differs from codebook\[indices\] at 1"):
        CodedTensor("w", values, BOOK, INDICES).validate()


def test_a_bad_name_is_refused():
    with pytest.raises(TensorNameError):
        CodedTensor("../w", BOOK).validate()


def test_an_empty_tensor_with_a_code_is_valid():
    CodedTensor("w", np.zeros((0, 2), dtype=np.float32), BOOK, np.zeros((0, 2), dtype=np.uint8)).validate()
