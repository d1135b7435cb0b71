import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearweight.artifact import gap
from clearweight.artifact.errors import PositionError
from clearweight.artifact.gap import WIDTHS, gap_histogram, gap_positions, gap_symbols, symbol_histogram

masks = st.lists(st.booleans(), max_size=600).map(lambda bits: np.array(bits, dtype=bool))
sparse = st.lists(st.integers(0, 5000), max_size=12).map(lambda at: np.isin(np.arange(5001), at))


def slowly_coded(mask: np.ndarray, width: int) -> list[int]:
    symbols, zeros = [], 0
    for kept in mask:
        if not kept:
            zeros += 1
            continue
        while zeros >= 2**width - 1:
            symbols.append(0)
            zeros -= 2**width - 1
        symbols.append(zeros + 1)
        zeros = 0
    return symbols


@given(masks | sparse, st.sampled_from(list(WIDTHS)))
def test_symbols_are_those_of_spec_3_5(mask, width):
    symbols = gap_symbols(mask, width)

    assert symbols.tolist() == slowly_coded(mask, width)
    back = [int(p) for chunk in gap_positions(symbols, width, mask.size, "part") for p in chunk]
    assert back == np.flatnonzero(mask).tolist()


@given(masks | sparse, st.sampled_from(list(WIDTHS)))
def test_the_histogram_predicts_the_symbols(mask, width):
    expected = np.bincount(gap_symbols(mask, width), minlength=1 << width)

    assert symbol_histogram(*gap_histogram(mask), width).tolist() == expected.tolist()


def test_chunks_join_without_a_seam(monkeypatch):
    mask = np.random.default_rng(0).random(5000) < 0.05
    mask[1000:2500] = False
    whole = gap_symbols(mask, 4)
    monkeypatch.setattr(gap, "_CHUNK", 64)

    assert np.array_equal(gap_symbols(mask, 4), whole)
    assert np.array_equal(np.concatenate(list(gap_positions(whole, 4, 5000, "part"))), np.flatnonzero(mask))


def test_a_position_behind_the_end_is_refused():
    symbols = gap_symbols(np.array([0, 0, 1], dtype=bool), 3)

    with pytest.raises(PositionError, match="position 2, but the tensor holds 2"):
        list(gap_positions(symbols, 3, 2, "part"))


def test_a_filler_at_the_end_is_refused():
    with pytest.raises(PositionError, match="filler"):
        list(gap_positions(np.array([1, 0], dtype=np.uint8), 3, 100, "part"))
