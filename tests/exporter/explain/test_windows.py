import numpy as np
import pytest

from clearweight.exporter.explain.windows import default_window, sliding_windows


@pytest.mark.parametrize(
    ("space", "expected"),
    [((28, 28), 4), ((64, 64), 4), ((65, 20), 8), ((224, 224), 28), ((1000,), 8), ((6,), 8)],
)
def test_the_default_window_follows_the_inputs_size(space, expected):
    assert default_window(space) == expected


@pytest.mark.parametrize(
    ("space", "size", "stride"),
    [((10,), 4, 3), ((9, 12), 4, 2), ((5, 3), 8, 4), ((7, 7), 1, 1), ((4, 5, 6), 3, 2), ((11,), 4, 4)],
)
def test_windows_lie_inside_and_the_cover_counts_them(space, size, stride):
    windows = sliding_windows(space, size, stride)
    counted = np.zeros(space, int)
    for start, end in zip(windows.starts, windows.ends, strict=True):
        assert (start >= 0).all()
        assert (end <= space).all()
        assert (end - start == np.minimum(size, space)).all()
        counted[tuple(slice(a, b) for a, b in zip(start, end, strict=True))] += 1

    assert counted.min() >= 1
    np.testing.assert_array_equal(windows.cover(space), counted)
    assert len({tuple(start) for start in windows.starts}) == len(windows)


def test_the_last_window_of_an_axis_ends_at_its_edge():
    assert sliding_windows((10,), 4, 3).starts.ravel().tolist() == [0, 3, 6]
    assert sliding_windows((11,), 4, 3).starts.ravel().tolist() == [0, 3, 6, 7]
