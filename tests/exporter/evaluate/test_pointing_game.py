import numpy as np
import pytest

from clearweight.exporter import DataError
from clearweight.exporter.evaluate.pointing_game import pointing_game


def one(at, shape=(4, 5)):
    values = np.zeros((1, *shape), np.float32)
    values[(0, *at)] = 1
    return values


def test_a_hit_is_a_maximum_inside_the_mask():
    mask = one((2, 3)) > 0

    assert pointing_game(one((2, 3)), mask)[0] == 1
    assert pointing_game(one((2, 4)), mask)[0] == 0
    assert pointing_game(-one((2, 3)), mask)[0] == 0  # what speaks against the class is no hit


@pytest.mark.parametrize(("tolerance", "hit"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_the_tolerance_is_counted_in_places(tolerance, hit):
    assert pointing_game(one((0, 0)), one((2, 1)) > 0, tolerance=tolerance)[0] == hit


def test_ties_go_to_the_lower_index():
    maps = np.ones((1, 2, 2), np.float32)

    assert pointing_game(maps, one((0, 0), (2, 2)) > 0)[0] == 1
    assert pointing_game(maps, one((1, 1), (2, 2)) > 0)[0] == 0


def test_empty_masks_and_maps_are_undefined():
    maps = np.concatenate([one((0, 0)), 0 * one((0, 0)), np.full((1, 4, 5), np.nan, np.float32)])
    masks = np.zeros((3, 4, 5), bool)
    masks[1:] = True

    assert np.isnan(pointing_game(maps, masks)).all()


@pytest.mark.parametrize("mask", [np.ones((1, 5, 4), bool), np.ones((1, 4, 5))])
def test_masks_that_do_not_fit_are_refused(mask):
    with pytest.raises(DataError, match=r"expected \(1, 4, 5\) and bool"):
        pointing_game(one((0, 0)), mask)
