"""Rows drawn for comparison: independent, of one probability, however they are cut into requests."""

import numpy as np
import pytest

from clearweight.service.drift.draws import Draws


def drawn(share, seed, requests):
    """Places of all rows drawn, counted through the requests."""
    draws, places, start = Draws(share, seed), [], 0
    for rows in requests:
        places += [start + place for place in draws.among(rows)]
        start += rows
    return places


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_every_row_has_the_same_chance_and_gaps_are_geometric(share):
    places = np.array(drawn(share, 1, [1] * 40_000))

    assert abs(len(places) / 40_000 - share) < 4 * np.sqrt(share * (1 - share) / 40_000)
    gaps = np.diff(places)
    for gap in (1, 2, 3):
        expected = share * (1 - share) ** (gap - 1)
        assert abs(np.mean(gaps == gap) - expected) < 4.5 * np.sqrt(expected / len(gaps))


def test_how_rows_are_cut_into_requests_does_not_matter():
    assert drawn(0.2, 3, [1] * 1000) == drawn(0.2, 3, [7] * 142 + [6]) == drawn(0.2, 3, [1000])


def test_a_share_of_one_draws_all():
    assert Draws(1.0, 0).among(5) == [0, 1, 2, 3, 4]
    assert Draws(1.0, 0).among(0) == []


@pytest.mark.parametrize("asked_every", [1, 7, 1000])
def test_what_is_let_pass_is_counted_once_whenever_it_is_asked_for(asked_every):
    draws, told = Draws(0.2, 5), 0
    requests = np.random.default_rng(0).integers(1, 9, 1000).tolist()
    chosen = 0
    for index, rows in enumerate(requests, 1):
        chosen += len(draws.among(rows))
        if index % asked_every == 0:
            told += draws.passed()
            assert told + chosen == sum(requests[:index])
    assert told + draws.passed() + chosen == sum(requests)
    assert draws.passed() == 0
