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


def test_without_either_another_size_is_refused():
    with pytest.raises(InvalidRequestError, match="13 x 9 pixels, expected 4 x 4; parameter 'resize'"):
        decode(None, {})
