"""The order in which a tensor's elements are visited (SPEC.md section 3.4).

Zeros cluster along some axes and not along others (dead pixels, pruned filters), so the order changes
the gaps. A walk is a permutation of the axes; its number is its place in lexicographic order.
"""

import math
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_WALKED_RANK = 4  # 24 orders fit five bits; tensors of higher rank keep their own order
WALKS: tuple[tuple[tuple[int, ...], ...], ...] = tuple(
    tuple(permutations(range(rank))) if rank <= MAX_WALKED_RANK else (tuple(range(rank)),)
    for rank in range(9)
)


def distinct_walks(shape: tuple[int, ...]) -> list[int]:
    """List the walks that visit elements in different orders; axes of length one do not matter.

    Examples
    --------
    >>> distinct_walks((3, 1, 2))
    [0, 3]
    """
    seen: dict[tuple[int, ...], int] = {}
    for number, axes in enumerate(WALKS[len(shape)]):
        seen.setdefault(tuple(axis for axis in axes if shape[axis] != 1), number)
    return list(seen.values())


def walked(array: NDArray[Any], walk: int) -> NDArray[Any]:
    """Flatten an array in the order of a walk; a view when the walk is the array's own order."""
    return array.transpose(WALKS[array.ndim][walk]).reshape(-1)


def row_length(shape: tuple[int, ...], walk: int) -> int:
    """Choose the rows in which a walked tensor is read as a matrix (SPEC.md section 2.8).

    One axis against all others: the first axis of the walk gives the rows, or axis 0 the columns where it comes last.

    Examples
    --------
    >>> row_length((6, 4, 3, 3), 0), row_length((6, 4, 3, 3), 9)
    (36, 6)
    """
    axes = WALKS[len(shape)][walk]
    if not axes or axes[-1] == 0:
        return shape[0] if axes else 1
    return math.prod(shape) // shape[axes[0]]


def flat_positions(positions: NDArray[np.int64], shape: tuple[int, ...], walk: int) -> NDArray[np.int64]:
    """Turn positions along a walk into positions in C order.

    Examples
    --------
    >>> flat_positions(np.array([0, 1, 2]), (2, 3), 1)
    array([0, 3, 1])
    """
    if walk == 0:
        return positions
    strides = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
    flat = np.zeros_like(positions)
    rest = positions
    for axis in reversed(WALKS[len(shape)][walk]):
        rest, place = np.divmod(rest, shape[axis])
        flat += place * strides[axis]
    return flat
