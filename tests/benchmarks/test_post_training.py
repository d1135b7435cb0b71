"""How a point of ours is held against one of the rival's: at no larger error, and within fewer bytes."""

import pytest

from benchmarks.post_training import held_against

THEIRS = {"packed_bytes": 100.0, "error_percent": 2.0, "cosine_input_x_gradient": 0.9}


def point(size, error, cosine):
    return {"packed_bytes": size, "error_percent": error, "cosine_input_x_gradient": cosine}


def test_the_smallest_of_no_larger_error_is_compared():
    own = [point(90.0, 1.0, 0.99), point(50.0, 2.0, 0.85), point(20.0, 2.1, 0.8)]

    found = held_against(THEIRS, own)

    assert found["packed_over_nncodec"] == pytest.approx(0.5)
    assert found["cosine_minus_nncodec"] == pytest.approx(-0.05)


def test_maps_are_compared_at_the_most_alike_within_four_fifths_of_the_bytes():
    own = [point(81.0, 1.0, 0.99), point(80.0, 1.5, 0.93), point(50.0, 1.9, 0.85)]

    assert held_against(THEIRS, own)["cosine_minus_nncodec_in_four_fifths"] == pytest.approx(0.03)


def test_where_every_error_is_larger_nothing_is_claimed():
    assert set(held_against(THEIRS, [point(10.0, 2.5, 0.99)]).values()) == {None}


def test_where_nothing_is_small_enough_maps_are_not_compared():
    found = held_against(THEIRS, [point(85.0, 1.0, 0.99)])

    assert found["packed_over_nncodec"] == pytest.approx(0.85)
    assert found["cosine_minus_nncodec_in_four_fifths"] is None
