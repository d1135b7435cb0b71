import numpy as np
import pytest

from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.series import decode_series

TWO = [[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        ("1,2,3", (3,), [1, 2, 3]),
        ("1\n2\n3\n", (3,), [1, 2, 3]),
        ("1; 2;\t3;", (-1,), [1, 2, 3]),
        ("  1 2   3 ", (1, 3), [[1, 2, 3]]),
        ("mV\n1\n-2.5e3\n.5", (1, -1), [[1, -2500, 0.5]]),
        ("7", (1,), [7]),
        ("1,10\n2,20\n3,30", (2, 3), TWO),
        ("I,II\r\n1,10\r\n2,20\r\n3,30\r\n", (2, -1), TWO),
        ("1,2,3\n10,20,30", (2, 3), TWO),
        ("[1, 2, 3]", (3,), [1, 2, 3]),
        (" [[1, 2, 3], [10, 20, 30]]", (2, 3), TWO),
        ("[[1, 10], [2, 20], [3, 30]]", (2, 3), TWO),
        # As many channels as moments: lines are moments.
        ("1,2\n3,4", (2, 2), [[1, 3], [2, 4]]),
    ],
)
def test_forms_people_write(text, shape, expected):
    assert np.array_equal(decode_series(text, shape), expected)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("", (3,)),
        ("\n \n", (3,)),
        ("1,2", (3,)),
        ("1,2,3\n4,5,6", (6,)),
        ("1,2\n3", (2, 2)),
        ("1,two,3", (3,)),
        ("one,two,three", (3,)),
        ("nan,1,2", (3,)),
        ("inf,1,2", (3,)),
        ("1,10\n2,20\n3,30", (4, 3)),
        ("[1, 2", (2,)),
        ("[]", (0,)),
        ("[[]]", (1,)),
        ('["1", "2"]', (2,)),
        ("[true, false]", (2,)),
        ("[[1, 2], [3]]", (2, 2)),
        ("[[1], 2]", (2,)),
        ("[NaN, 1]", (2,)),
        ("[1" + "0" * 400 + "]", (1,)),
        ("[" * 100_000, (1,)),
    ],
)
def test_what_is_refused(text, shape):
    with pytest.raises(InvalidRequestError):
        decode_series(text, shape)
