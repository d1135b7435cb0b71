"""Arrays that do not belong together are refused before anything is drawn."""

import numpy as np
import pytest

from clearweight.exporter.errors import DataError


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.array([0])},
        {"inputs": np.zeros((2, 1, 8, 8))},
        {"maps_reference": np.zeros((3, 1, 4, 4))},
    ],
)
def test_rows_and_shapes_must_agree(data, replaced, changes):
    with pytest.raises(DataError, match="one row of each per input, and maps of one shape"):
        replaced(data, **changes)
