"""A tensor as a matrix, cut into equal tiles (SPEC.md section 3.8).

The matrix is the tensor's first axis against all others: the layout in which convolutions become matrix products. A
kernel of a k x k convolution is then a tile of one row and k k columns.
"""

import math
from typing import Any

from numpy.typing import NDArray

Tile = tuple[int, int]


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns of a tensor as a matrix.

    Examples
    --------
    >>> matrix_shape((6, 4, 3, 3)), matrix_shape((5,))
    ((6, 36), (5, 1))
    """
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


def grid_shape(shape: tuple[int, ...], tile: Tile) -> tuple[int, int] | None:
    """Return how many tiles there are along both axes of the matrix, or None where they do not fill it exactly."""
    rows, columns = matrix_shape(shape)
    if not rows * columns or not tile[0] * tile[1] or rows % tile[0] or columns % tile[1]:
        return None
    return rows // tile[0], columns // tile[1]


def tiles_of(values: NDArray[Any], tile: Tile) -> NDArray[Any]:
    """Cut a tensor into its tiles, in C order of the grid and within each tile.

    Returns
    -------
    shape (tiles, rows * columns of a tile)
    """
    rows, columns = matrix_shape(values.shape)
    cut = values.reshape(rows // tile[0], tile[0], columns // tile[1], tile[1])
    return cut.transpose(0, 2, 1, 3).reshape(-1, tile[0] * tile[1])


def from_tiles(tiles: NDArray[Any], shape: tuple[int, ...], tile: Tile) -> NDArray[Any]:
    """Put a tensor together again from what `tiles_of` gave."""
    rows, columns = matrix_shape(shape)
    grid = tiles.reshape(rows // tile[0], columns // tile[1], *tile)
    return grid.transpose(0, 2, 1, 3).reshape(shape)
