"""The tiles of one tensor: its parts written as tensors of their own, and put together again (SPEC.md section 3.8).

Reading holds the tensor, its parts, and chunks; a part has at most as many elements as the tensor.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.bit_pattern import bit_pattern
from clearweight.artifact.byte_cursor import ByteCursor, varint_bytes
from clearweight.artifact.choice import Coder, choose
from clearweight.artifact.coded import CodedTensor
from clearweight.artifact.errors import CodebookError, PositionError, SurplusBytesError, TensorFieldError
from clearweight.artifact.payload import decode_payload
from clearweight.artifact.record import ITEMS, Form, Support, TensorRecord, Values, form_bytes, read_body
from clearweight.artifact.tile import FREE, UNIFIED, TileCodebookTensor, TiledTensor, positive, signed
from clearweight.artifact.tile_grid import grid_shape

_CHUNK = 1 << 18  # elements put in place at a time
_BYTES = np.dtype("u1")


def tiled_form(tensor: TiledTensor) -> Form:
    """Return the form of a tensor that is stored by its tiles."""
    return Form(tensor.support, Values.RAW, tensor.values.dtype.newbyteorder("="), tile=tensor.tile)


def encode_tiles(tensor: TiledTensor, coder: Coder) -> list[bytes]:
    """Write the tiles of a tensor; returns the parts of the payload."""
    head = [bytes([len(tensor.book.values) - 1])] if isinstance(tensor, TileCodebookTensor) else []
    return head + [data for part in tensor.parts for data in _encode_part(part, coder)]


def _encode_part(part: CodedTensor, coder: Coder) -> list[bytes]:
    chosen = choose(part, coder)
    item = 0 if chosen.form.item == part.values.dtype.newbyteorder("=") else ITEMS.index(chosen.form.item)
    zeros = varint_bytes(part.values.size - chosen.content.nonzero)
    return [form_bytes(chosen.form, item), zeros, varint_bytes(chosen.size), *chosen.parts]


def decode_tiles(cursor: ByteCursor, record: TensorRecord) -> NDArray[Any]:
    """Read a tensor that is stored by its tiles and demand that its payload ends where it should.

    Raises
    ------
    ContainerError
        The class names what is wrong.
    """
    grid = grid_shape(record.shape, record.form.tile) or (0, 0)
    rows, columns = record.form.tile
    band = rows * columns * grid[1]  # elements of one row of tiles
    step = max(1, _CHUNK // band) * grid[1]
    read = _read_codebook if record.form.support == Support.TILE_CODEBOOK else _read_magnitudes
    chunks = read(cursor, record, grid, step)
    if cursor.remaining:
        raise SurplusBytesError(
            f"{cursor.what} has {cursor.remaining} bytes behind its tiles; expected none."
        )
    flat = np.empty(record.size, dtype=record.dtype)
    at = nonzero = 0
    for tiles in chunks:
        nonzero += int(np.count_nonzero(bit_pattern(tiles)))
        bands = tiles.reshape(-1, grid[1], rows, columns).transpose(0, 2, 1, 3)
        flat[at : at + tiles.size] = bands.reshape(-1)
        at += tiles.size
    if nonzero != record.nonzero:
        raise PositionError(
            f"{cursor.what} holds {nonzero} values other than zero, its record states {record.nonzero}."
        )
    return flat.reshape(record.shape)


def _read_part(cursor: ByteCursor, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    part = read_body(cursor, name, dtype, shape, cursor.position)
    if part.form.support.tiled:
        raise TensorFieldError(f"{cursor.what} has tiles within its {name}; expected elements.")
    return decode_payload(cursor.part(part.payload_bytes, f"{cursor.what}, {name},"), part)


def _read_codebook(
    cursor: ByteCursor, record: TensorRecord, grid: tuple[int, int], step: int
) -> Iterator[NDArray[Any]]:
    count, tiles = cursor.byte() + 1, grid[0] * grid[1]
    if count > tiles:
        raise CodebookError(f"{cursor.what} has {count} codewords for {tiles} tiles.")
    book = _read_part(cursor, "codewords", record.dtype, (count, record.size // tiles))
    indices = _read_part(cursor, "indices", _BYTES, grid).reshape(-1)
    if int(indices.max()) >= count:
        raise CodebookError(
            f"{cursor.what} has index {int(indices.max())}, its codebook holds {count} tiles."
        )
    return (book[indices[start : start + step]] for start in range(0, tiles, step))


def _read_magnitudes(
    cursor: ByteCursor, record: TensorRecord, grid: tuple[int, int], step: int
) -> Iterator[NDArray[Any]]:
    kinds = _read_part(cursor, "kinds", _BYTES, grid).reshape(-1)
    if int(kinds.max()) > FREE:
        raise TensorFieldError(f"{cursor.what} has a tile of kind {int(kinds.max())}, expected 0 to {FREE}.")
    size = record.size // kinds.size
    unified, free = (int(np.count_nonzero(kinds == kind)) for kind in (UNIFIED, FREE))
    magnitudes = _read_part(cursor, "magnitudes", record.dtype, (unified, 1))
    if not positive(magnitudes):
        raise CodebookError(f"{cursor.what} has a magnitude that is not above zero.")
    negative = _read_part(cursor, "signs", _BYTES, (unified, size))
    if (negative > 1).any():
        raise TensorFieldError(f"{cursor.what} has a sign {int(negative.max())}, expected 0 or 1.")
    loose = _read_part(cursor, "free tiles", record.dtype, (free, size))
    return _filled(kinds, magnitudes, negative, loose, step)


def _filled(
    kinds: NDArray[Any],
    magnitudes: NDArray[Any],
    negative: NDArray[Any],
    loose: NDArray[Any],
    step: int,
) -> Iterator[NDArray[Any]]:
    unified = free = 0
    for start in range(0, kinds.size, step):
        part = kinds[start : start + step]
        tiles = np.zeros((part.size, loose.shape[1]), dtype=loose.dtype)
        u, f = (int(np.count_nonzero(part == kind)) for kind in (UNIFIED, FREE))
        tiles[part == UNIFIED] = signed(magnitudes[unified : unified + u], negative[unified : unified + u])
        tiles[part == FREE] = loose[free : free + f]
        unified, free = unified + u, free + f
        yield tiles
