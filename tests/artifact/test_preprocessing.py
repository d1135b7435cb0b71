import numpy as np
import pytest

from clearweight.artifact import Preprocessing, preprocessing
from clearweight.artifact.errors import PreprocessingError
from clearweight.artifact.manifest_rules import RAW_DATATYPES


def test_pixels_are_scaled_then_centred_then_divided_in_float32():
    raw = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 2, 2)
    spec = Preprocessing("UINT8", 1 / 255, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    expected = np.empty(raw.shape, dtype=np.float32)
    for n, c, h, w in np.ndindex(*raw.shape):
        x = np.float32(raw[n, c, h, w]) * np.float32(spec.scale)
        expected[n, c, h, w] = (x - np.float32(spec.mean[c])) / np.float32(spec.std[c])

    assert np.array_equal(preprocessing.apply(spec, raw), expected)
    assert preprocessing.apply(spec, raw).dtype == np.float32


def test_nothing_to_do_copies_and_does_not_touch_the_input():
    raw = np.ones((2, 3), dtype=np.float32)
    out = preprocessing.apply(Preprocessing(), raw)
    out += 1

    assert raw.tolist() == [[1.0] * 3] * 2


def test_one_number_serves_every_channel():
    assert preprocessing.apply(Preprocessing(mean=(1.0,), std=(2.0,)), np.array([3.0])).tolist() == [1.0]


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 4, 3)])
def test_channels_that_do_not_fit_are_refused(shape):
    with pytest.raises(PreprocessingError, match="3 channels of mean"):
        preprocessing.apply(Preprocessing(mean=(1.0, 2.0, 3.0)), np.zeros(shape))


def test_the_raw_types_are_those_a_manifest_may_name():
    assert set(preprocessing.RAW_DATATYPES) == set(RAW_DATATYPES)
