"""Codes of few bits against plain loops, and nibbles unpacked by hand."""

import math

import numpy as np
import pytest

from clearweight.exporter.graph import ParameterError
from clearweight.exporter.graph.few_bits import block_codes, output_codes, packed


def candidates(values, levels_below, levels_above, extreme, shares):
    """Yield (squared error, steps, scale) of every share, one value at a time."""
    for share in shares:
        scale = extreme * share
        steps = [0 if scale == 0 else min(max(round(v / scale), levels_below), levels_above) for v in values]
        yield sum((v - s * scale) ** 2 for v, s in zip(values, steps, strict=True)), steps, scale


@pytest.mark.parametrize(("bits", "shares"), [(8, 1), (4, 7), (2, 6)])
def test_blocks_are_those_of_plain_loops(bits, shares):
    matrix = np.random.default_rng(bits).standard_normal((3, 40)).astype(np.float32)
    made = block_codes(matrix, bits, 16)
    half = 2 ** (bits - 1)
    step = 0.05 if bits == 4 else 0.1

    assert made.codes.shape == (3, 3, 16)
    for row in range(3):
        for block in range(3):
            values = [float(v) for v in matrix[row, 16 * block : 16 * block + 16]]
            largest = max(values, key=abs)
            options = list(
                candidates(values, -half, half - 1, -largest / half, [1 - step * k for k in range(shares)])
            )
            error, _, _ = min(options, key=lambda option: option[0])
            steps = made.codes[row, block].astype(int) - half
            scale = float(made.scales[row, block])
            own = sum((v - s * scale) ** 2 for v, s in zip(values, steps, strict=False))
            assert own == pytest.approx(error, rel=1e-4)
            assert not steps[len(values) :].any()
            assert any(math.isclose(scale, option[2], rel_tol=1e-5) for option in options)


def test_the_matrix_is_code_times_scale():
    made = block_codes(np.float32([[1, -8, 3.2, 0]]), 4, 4)

    # The largest magnitude is -8: step 1, code 0 stands for -8 and code 8 for zero.
    assert made.scales.tolist() == [[1.0]]
    assert made.codes.tolist() == [[[9, 0, 11, 8]]]
    assert made.matrix(4).tolist() == [[1.0, -8.0, 3.0, 0.0]]
    assert block_codes(np.float32([[1, 8, 0, 0]]), 4, 4).scales[0, 0] < 0


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("axis", [0, 1])
def test_outputs_have_one_scale_each_and_the_least_error_of_the_candidates(bits, axis):
    weight = np.random.default_rng(1).standard_normal((4, 3, 2, 2)).astype(np.float32)
    codes, scales = output_codes(weight, bits, axis)
    most = 2 ** (bits - 1) - 1

    assert codes.dtype == np.int8
    assert np.abs(codes).max() <= most
    assert scales.shape == (weight.shape[axis],)
    for index in range(weight.shape[axis]):
        values = np.take(weight, index, axis).ravel().astype(float).tolist()
        extreme = max(map(abs, values)) / most
        shares = [1.0] if bits == 8 else [1 - 0.05 * k for k in range(7)]
        least = min(option[0] for option in candidates(values, -most, most, extreme, shares))
        own = ((values - np.take(codes, index, axis).ravel() * float(scales[index])) ** 2).sum()
        assert own == pytest.approx(least, rel=1e-3)


def test_zeros_stay_zero_and_nothing_but_zeros_is_no_division():
    weight = np.zeros((2, 8), np.float32)
    weight[1, ::2] = [0.3, -1.0, 0.5, 0.1]

    blocks = block_codes(weight, 4, 4).matrix(8)
    codes, scales = output_codes(weight, 8)

    assert np.array_equal(blocks == 0, weight == 0)
    assert np.array_equal(codes == 0, weight == 0)
    assert scales[0] == 1.0


def test_codes_are_packed_low_bits_first():
    assert packed(np.array([[1, 2, 15, 0]]), 4).tolist() == [[0x21, 0x0F]]
    assert packed(np.array([-1, -8]), 4).tolist() == [0x8F]
    assert packed(np.array([3, 0, 1, 2]), 2).tolist() == [0b10_01_00_11]
    assert packed(np.array([7, 200]), 8).tolist() == [7, 200]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_is_packed_is_unpacked_by_hand(bits):
    codes = np.random.default_rng(0).integers(0, 2**bits, (5, 16))
    by_hand = [
        [(byte >> (bits * place)) & (2**bits - 1) for byte in row for place in range(8 // bits)]
        for row in packed(codes, bits).tolist()
    ]

    assert by_hand == codes.tolist()


def test_other_bits_are_refused_by_number():
    with pytest.raises(ParameterError, match="take 3 bits, expected one of 2, 4, 8"):
        block_codes(np.zeros((1, 4), np.float32), 3, 4)
    with pytest.raises(ParameterError, match="take 2 bits, expected one of 4, 8"):
        output_codes(np.zeros((1, 4), np.float32), 2)
