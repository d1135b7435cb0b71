"""Pictures and texts as rows: what the manifest states holds where the caller says nothing."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from clearweight.artifact import Preprocessing, TensorSpec
from clearweight.service import InvalidRequestError
from clearweight.service.core.encoded import decode_rows
from clearweight.service.core.image import decode_images
from clearweight.service.core.types import Limits, Tensor

SPEC = TensorSpec("input", "FP32", (-1, 1, 4, 4))


def picture():
    held = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13)).astype(np.uint8)).save(held, "PNG")
    return held.getvalue()


def decode(stated, parameters):
    rows = np.array([picture()], dtype=object)
    preprocessing = Preprocessing("UINT8", resize=stated)
    return decode_rows(SPEC, preprocessing, Tensor("input", "BYTES", rows), parameters, Limits())


@pytest.mark.parametrize(
    ("stated", "asked", "done"),
    [
        ("crop", None, "crop"),
        ("stretch", None, "stretch"),
        ("crop", "stretch", "stretch"),
        (None, "crop", "crop"),
    ],
)
def test_a_picture_is_resized_as_asked_and_else_as_the_manifest_states(stated, asked, done):
    found = decode(stated, {} if asked is None else {"resize": asked})

    expected = decode_images([picture()], (1, 4, 4), resize=done, pixels=1000)
    assert np.array_equal(found, expected)
    other = "stretch" if done == "crop" else "crop"
    assert not np.array_equal(found, decode_images([picture()], (1, 4, 4), resize=other, pixels=1000))


def decode_white(preprocessing, parameters):
    """A black, a grey and a white pixel, as the model's raw input."""
    held = BytesIO()
    Image.fromarray(np.array([[0, 51, 255]], np.uint8)).save(held, "PNG")
    rows = np.array([held.getvalue()], dtype=object)
    spec = TensorSpec("input", "FP32", (-1, 1, 1, 3))
    found = decode_rows(spec, preprocessing, Tensor("input", "BYTES", rows), parameters, Limits())
    assert found.dtype == np.dtype("u1" if preprocessing.raw_datatype == "UINT8" else "f4")
    return found.ravel().tolist()


@pytest.mark.parametrize(
    ("preprocessing", "pixels", "expected"),
    [
        (Preprocessing("UINT8"), None, [0, 51, 255]),
        (Preprocessing("UINT8", 1 / 16, white=16.0), None, [0, 3, 16]),
        (Preprocessing("UINT8", 1 / 16, white=16.0), "byte", [0, 51, 255]),
        (Preprocessing("FP32", white=1.0), None, [0, pytest.approx(0.2), 1]),
        (Preprocessing("FP32", white=255.0), None, [0, 51, 255]),
        (Preprocessing("FP32", white=255.0), "unit", [0, pytest.approx(0.2), 1]),
        (Preprocessing("FP32"), "unit", [0, pytest.approx(0.2), 1]),
    ],
)
def test_white_is_what_the_caller_says_and_else_what_the_manifest_states(preprocessing, pixels, expected):
    assert decode_white(preprocessing, {} if pixels is None else {"pixels": pixels}) == expected


def test_a_model_of_floats_that_does_not_say_what_white_is_takes_no_picture_without_it():
    with pytest.raises(InvalidRequestError, match="does not say what white is"):
        decode_white(Preprocessing("FP32"), {})


def test_without_either_another_size_is_refused():
    with pytest.raises(InvalidRequestError, match="13 x 9 pixels, expected 4 x 4; parameter 'resize'"):
        decode(None, {})
