"""Tensors made of equal tiles: few distinct tiles, or tiles with one magnitude each (SPEC.md section 3.8)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.bit_pattern import bit_pattern
from clearweight.artifact.coded import CHUNK, MAX_CODEBOOK, CodedTensor
from clearweight.artifact.errors import CodedTensorError
from clearweight.artifact.record import Support
from clearweight.artifact.tile_grid import Tile, from_tiles, grid_shape

PRUNED, UNIFIED, FREE = 0, 1, 2  # what a tile of a `UnifiedTensor` is


@dataclass(frozen=True, eq=False, kw_only=True)
class TiledTensor(CodedTensor, ABC):
    """A tensor that is handed over with its tiles.

    Parameters
    ----------
    tile : rows and columns of a tile; both divide those of the matrix
    """

    support: ClassVar[Support]
    tile: Tile

    @property
    @abstractmethod
    def parts(self) -> tuple[CodedTensor, ...]:
        """What is stored, in the order of SPEC.md section 3.8."""

    @abstractmethod
    def rebuilt(self) -> NDArray[Any]:
        """Put the values together from the parts."""

    def validate(self) -> None:
        """Refuse, beyond what any tensor is refused for, tiles that do not give the values bit for bit.

        Raises
        ------
        CodedTensorError
            Tiles that do not fill the tensor, parts of other shapes, or other values.
        """
        super().validate()
        for part in self.parts:
            part.validate()
        if grid_shape(self.values.shape, self.tile) is None:
            raise CodedTensorError(
                f"Tensor {self.name!r} of shape {self.values.shape} is not filled by tiles of {self.tile}."
            )
        self._check_parts()
        mine, theirs = bit_pattern(self.values).reshape(-1), bit_pattern(self.rebuilt()).reshape(-1)
        for start in range(0, mine.size, CHUNK):
            if not np.array_equal(mine[start : start + CHUNK], theirs[start : start + CHUNK]):
                raise CodedTensorError(f"Tensor {self.name!r} differs from what its tiles give.")

    @abstractmethod
    def _check_parts(self) -> None:
        """Refuse parts of other shapes, types or ranges than the form has."""

    def _demand(self, holds: bool, what: str) -> None:
        if not holds:
            raise CodedTensorError(f"The tiles of tensor {self.name!r} have {what}.")


@dataclass(frozen=True, eq=False, kw_only=True)
class TileCodebookTensor(TiledTensor):
    """Every tile is one of few: ``book[tile_indices]``.

    Parameters
    ----------
    book : shape (k, elements of a tile), k at most 256 and at most the number of tiles; may have a code of its own
    tile_indices : uint8, the grid's shape
    """

    support: ClassVar = Support.TILE_CODEBOOK
    book: CodedTensor
    tile_indices: NDArray[np.uint8]

    @property
    def parts(self) -> tuple[CodedTensor, ...]:
        """The codebook and the indices."""
        return self.book, CodedTensor("indices", self.tile_indices)

    def rebuilt(self) -> NDArray[Any]:
        """Look every tile up."""
        return from_tiles(self.book.values[self.tile_indices.reshape(-1)], self.values.shape, self.tile)

    def _check_parts(self) -> None:
        grid, book = grid_shape(self.values.shape, self.tile), self.book.values
        self._demand(
            self.tile_indices.shape == grid and self.tile_indices.dtype == np.uint8, "indices of another grid"
        )
        size = self.tile[0] * self.tile[1]
        self._demand(
            book.ndim == 2 and book.shape[1] == size and book.dtype == self.values.dtype, "other codewords"
        )
        self._demand(
            int(self.tile_indices.max()) < len(book) <= min(MAX_CODEBOOK, self.tile_indices.size),
            f"{len(book)} codewords and the index {int(self.tile_indices.max())}",
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class UnifiedTensor(TiledTensor):
    """Every tile is zero, or has one magnitude and a sign per element, or is free.

    Parameters
    ----------
    kinds : uint8, the grid's shape: PRUNED, UNIFIED or FREE
    magnitudes : shape (unified tiles, 1), positive
    negative : uint8, shape (unified tiles, elements of a tile): 1 for a negative element, else 0
    free : shape (free tiles, elements of a tile)
    """

    support: ClassVar = Support.TILE_MAGNITUDES
    kinds: NDArray[np.uint8]
    magnitudes: CodedTensor
    negative: NDArray[np.uint8]
    free: CodedTensor

    @property
    def parts(self) -> tuple[CodedTensor, ...]:
        """Kinds, magnitudes, signs and free tiles."""
        return (
            CodedTensor("kinds", self.kinds),
            self.magnitudes,
            CodedTensor("signs", self.negative),
            self.free,
        )

    def rebuilt(self) -> NDArray[Any]:
        """Fill every tile by its kind."""
        kinds = self.kinds.reshape(-1)
        tiles = np.zeros((kinds.size, self.tile[0] * self.tile[1]), dtype=self.values.dtype)
        tiles[kinds == UNIFIED] = signed(self.magnitudes.values, self.negative)
        tiles[kinds == FREE] = self.free.values
        return from_tiles(tiles, self.values.shape, self.tile)

    def _check_parts(self) -> None:
        size, own = self.tile[0] * self.tile[1], self.values.dtype
        kinds, negative, magnitudes = self.kinds, self.negative, self.magnitudes.values
        unified, free = (int(np.count_nonzero(kinds == kind)) for kind in (UNIFIED, FREE))
        grid = grid_shape(self.values.shape, self.tile)
        self._demand(
            kinds.shape == grid and kinds.dtype == np.uint8 and int(kinds.max()) <= FREE,
            "kinds of another grid",
        )
        self._demand(
            magnitudes.shape == (unified, 1) and magnitudes.dtype == own and positive(magnitudes),
            "other magnitudes than one above zero for each unified tile",
        )
        self._demand(
            negative.shape == (unified, size) and negative.dtype == np.uint8 and not (negative > 1).any(),
            "signs of another shape or other than 0 and 1",
        )
        self._demand(
            self.free.values.shape == (free, size) and self.free.values.dtype == own,
            "free tiles of another shape",
        )


def signed(magnitudes: NDArray[Any], negative: NDArray[np.uint8]) -> NDArray[Any]:
    """Give each magnitude (n, 1) to its tile's elements (n, m), negative where ``negative`` is 1."""
    return np.where(negative != 0, -magnitudes, magnitudes)


def positive(values: NDArray[Any]) -> bool:
    """Tell whether all are above zero by their bits: the sign bit is clear and another is set."""
    patterns = bit_pattern(values)
    return bool(((patterns != 0) & (patterns >> (8 * patterns.itemsize - 1) == 0)).all())
