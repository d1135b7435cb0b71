"""Weights in few bits: symmetric codes with one scale for a block or an output, packed several to a byte.

Zero has a code of its own, so what was pruned stays pruned. A scale is the one of some candidates that leaves the least
squared error: at four bits it pays to clip a few outliers, so that the others get a finer step.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearweight.exporter.graph.errors import ParameterError

BLOCK_BITS = (2, 4, 8)
# Shares of the range that are tried as a scale's range; at 8 bits clipping never pays.
_SHARES = {2: (1.0, 0.9, 0.8, 0.7, 0.6, 0.5), 4: (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7), 8: (1.0,)}
_CHUNK = 1 << 20  # elements looked at together


@dataclass(frozen=True, eq=False)
class BlockCodes:
    """A matrix in blocks along its rows: ``weight = (code - 2^(bits - 1)) * scale``.

    Attributes
    ----------
    codes : uint8, (rows, blocks, block); what fills up the last block stands for zero
    scales : float32, (rows, blocks); negative where the largest magnitude is positive
    """

    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    bits: int

    def matrix(self, columns: int) -> NDArray[np.float32]:
        """Return the (rows, columns) floats that the codes stand for."""
        whole = self.codes.astype(np.float32) - np.float32(1 << (self.bits - 1))
        return (whole * self.scales[:, :, None]).reshape(len(self.codes), -1)[:, :columns]


def block_codes(matrix: NDArray[np.float32], bits: int, block: int) -> BlockCodes:
    """Quantize the rows of a matrix block by block.

    The element of the largest magnitude takes code 0, the one level that the other side of zero lacks.

    Parameters
    ----------
    matrix : (rows, columns)
    bits : 2, 4 or 8
    block : columns that share a scale

    Raises
    ------
    ParameterError
        Other bits.
    """
    _require_bits(bits, BLOCK_BITS)
    rows, columns = matrix.shape
    count = -(-columns // block)
    codes = np.empty((rows, count, block), np.uint8)
    scales = np.empty((rows, count), np.float32)
    step = max(1, _CHUNK // (count * block))
    for start in range(0, rows, step):
        part = matrix[start : start + step]
        filled = np.zeros((len(part), count * block), np.float32)
        filled[:, :columns] = part
        blocks = filled.reshape(len(part), count, block)
        codes[start : start + step], scales[start : start + step] = _blocks(blocks, bits)
    return BlockCodes(codes, scales, bits)


def _blocks(blocks: NDArray[np.float32], bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    half = 1 << (bits - 1)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(2)[:, :, None], 2)
    best: NDArray[np.float32] = largest / np.float32(-half)
    steps = _steps(blocks, best, -half, half - 1)
    error = _error(blocks, steps, best)
    for share in _SHARES[bits][1:]:
        scale = largest * np.float32(share / -half)
        tried = _steps(blocks, scale, -half, half - 1)
        found = _error(blocks, tried, scale)
        better = found < error
        best, steps = np.where(better, scale, best), np.where(better, tried, steps)
        error = np.where(better, found, error)
    return (steps + half).astype(np.uint8), best[:, :, 0]


def output_codes(
    weight: NDArray[np.float32], bits: int, axis: int = 0
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize a tensor with one scale for each index of ``axis``: ``weight = code * scale``.

    Parameters
    ----------
    bits : 4 or 8; codes lie between -(2^(bits - 1) - 1) and 2^(bits - 1) - 1

    Returns
    -------
    int8 codes of the weight's shape, float32 scales; the scale of nothing but zeros is 1

    Raises
    ------
    ParameterError
        Other bits.
    """
    _require_bits(bits, (4, 8))
    most = (1 << (bits - 1)) - 1
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    largest = np.abs(rows).max(1, keepdims=True)
    largest[largest == 0] = most
    best: NDArray[np.float32] = largest / np.float32(most)
    steps = _steps(rows, best, -most, most)
    error = _error(rows, steps, best)
    for share in _SHARES[bits][1:]:
        scale = largest * np.float32(share / most)
        tried = _steps(rows, scale, -most, most)
        found = _error(rows, tried, scale)
        better = found < error
        best, steps = np.where(better, scale, best), np.where(better, tried, steps)
        error = np.where(better, found, error)
    moved = np.moveaxis(weight, axis, 0).shape
    codes = np.ascontiguousarray(np.moveaxis(steps.reshape(moved), 0, axis).astype(np.int8))
    return codes, best[:, 0].astype(np.float32)


def _steps(
    values: NDArray[np.float32], scale: NDArray[np.float32], low: int, high: int
) -> NDArray[np.float32]:
    ratio = np.divide(values, scale, out=np.zeros_like(values), where=scale != 0)
    steps: NDArray[np.float32] = np.clip(np.rint(ratio), low, high)
    return steps


def _error(
    values: NDArray[np.float32], steps: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    error: NDArray[np.float32] = np.square(values - steps * scale).sum(-1, keepdims=True)
    return error


def packed(codes: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """Put codes of 2, 4 or 8 bits side by side along the last axis, the first one in a byte's lowest bits.

    Negative codes are written as two's complement. The last axis holds a multiple of ``8 / bits`` codes.

    >>> packed(np.array([1, 2, -1, 0]), 4).tolist()
    [33, 15]
    """
    _require_bits(bits, BLOCK_BITS)
    each = 8 // bits
    low = (codes & ((1 << bits) - 1)).astype(np.uint8).reshape(*codes.shape[:-1], -1, each)
    shifted = low << (np.arange(each, dtype=np.uint8) * bits)
    joined: NDArray[np.uint8] = np.bitwise_or.reduce(shifted, axis=-1)
    return joined


def _require_bits(bits: int, known: tuple[int, ...]) -> None:
    if bits not in known:
        raise ParameterError(
            f"Weights were to take {bits} bits, expected one of {', '.join(map(str, known))}."
        )
