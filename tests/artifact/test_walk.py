from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearweight.artifact.walk import WALKS, distinct_walks, flat_positions, walked


@given(st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple), st.data())
def test_positions_along_a_walk_lead_back_to_the_elements(shape, data):
    walk = data.draw(st.integers(0, len(WALKS[len(shape)]) - 1))
    array = np.arange(int(np.prod(shape))).reshape(shape)
    along = walked(array, walk)

    assert flat_positions(np.arange(along.size), shape, walk).tolist() == along.tolist()


def test_walks_are_numbered_as_in_spec_3_4():
    assert walked(np.arange(6).reshape(2, 3), 1).tolist() == [0, 3, 1, 4, 2, 5]
    assert WALKS[3] == tuple(sorted(permutations(range(3))))
    assert len(WALKS[4]) == 24
    assert WALKS[0] == ((),)
    assert [len(WALKS[rank]) for rank in (5, 6, 7, 8)] == [1, 1, 1, 1]


@pytest.mark.parametrize("shape", [(3, 4), (5, 1), (1, 2, 3), (2, 3, 2, 1), (), (7,), (2, 2, 2, 2, 2)])
def test_distinct_walks_visit_in_all_the_different_orders(shape):
    array = np.arange(int(np.prod(shape))).reshape(shape)
    orders = {tuple(walked(array, walk)) for walk in range(len(WALKS[len(shape)]))}
    kept = [tuple(walked(array, walk)) for walk in distinct_walks(shape)]

    assert len(kept) == len(set(kept))
    assert set(kept) == orders
    assert distinct_walks(shape)[0] == 0
