import gc
from pathlib import Path

import numpy as np

from clearweight.exporter.post_training.shelf import Shelf


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_arrays_come_back_as_they_were_in_any_order():
    random = np.random.default_rng(0)
    first, second = ([random.normal(size=(n, n)) for n in sizes] for sizes in ((3, 1, 5), (4,)))
    shelf = Shelf()
    kept = shelf.keep(iter(first)), shelf.keep(second)

    assert [len(one) for one in kept] == [3, 1]
    assert np.array_equal(kept[1][0], second[0])
    assert all(np.array_equal(got, array) for got, array in zip(kept[0], first, strict=True))
    assert np.array_equal(kept[0][1:][-1], first[2])


def test_the_file_is_closed_with_the_last_who_could_read_it():
    before = open_files()
    kept = Shelf().keep([np.ones((2, 2))])

    assert open_files() == before + 1
    assert kept[0].sum() == 4
    del kept
    gc.collect()
    assert open_files() == before
