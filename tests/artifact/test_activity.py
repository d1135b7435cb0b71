import numpy as np
import pytest

from clearweight.artifact.activity import BUCKETS, CONTEXTS, EDGES, MaskActivity


def slow_contexts(mask: np.ndarray, row: int, lanes: int) -> list[int]:
    """SPEC.md section 2.8, one element after the other."""
    found = []
    for place in range(mask.size):
        start = place // lanes * lanes
        line, column = place // row, place % row
        before = np.flatnonzero(mask[:start])
        share = (len(before) + 1) / (start + 2)
        in_column = [e for e in range(start) if e % row == column]
        in_line = [e for e in range(start) if e // row == line]
        a = (sum(mask[e] for e in in_column) + 2 * share) / (len(in_column) + 2)
        b = (sum(mask[e] for e in in_line) + 4 * share) / (len(in_line) + 4)
        bucket = sum(a * b >= edge * (share * share) for edge in EDGES)
        found.append(2 * bucket + (bool(mask[in_column[-1]]) if in_column else False))
    return found


@pytest.mark.parametrize(
    ("rows", "row", "lanes"), [(9, 12, 4), (30, 4, 16), (1, 50, 8), (60, 1, 2), (7, 13, 1)]
)
def test_contexts_are_those_of_the_slow_reading(rows, row, lanes):
    random = np.random.default_rng(rows)
    mask = (random.random((rows, row)) < random.random(row) * random.random((rows, 1))).reshape(-1)
    places, found = MaskActivity(mask.size, row, lanes), []
    for start in range(0, mask.size, lanes):
        found += places.contexts().tolist()
        places.learn(mask[start : start + lanes])

    expected = slow_contexts(mask, row, lanes)
    assert found == expected
    assert places.buckets().tolist() == [c // 2 for c, bit in zip(expected, mask, strict=True) if bit]


def test_dead_columns_and_busy_ones_fall_into_different_buckets():
    mask = np.zeros((64, 32), dtype=bool)
    mask[:, ::2] = np.random.default_rng(0).random((64, 16)) < 0.7
    places = MaskActivity(mask.size, 32, 32)
    for row in mask[:-1]:
        places.contexts()
        places.learn(row)
    last = places.contexts() // 2

    assert last[1::2].max() < last[::2].min()
    assert last.min() >= 0
    assert last.max() < BUCKETS == CONTEXTS // 2
