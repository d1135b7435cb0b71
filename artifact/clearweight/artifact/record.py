"""The head of one tensor in ``weights.cwt``: what it is and how it is laid out (SPEC.md section 3)."""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from clearweight.artifact.bit_pattern import DTYPES
from clearweight.artifact.byte_cursor import ByteCursor, varint_bytes
from clearweight.artifact.errors import TensorFieldError, TensorNameError
from clearweight.artifact.gap import WIDTHS
from clearweight.artifact.tensor_name import check_tensor_name
from clearweight.artifact.tile_grid import grid_shape
from clearweight.artifact.walk import WALKS

MAX_RANK = 8
MAX_ELEMENTS = 1 << 40


class Support(IntEnum):
    """Which elements are stored."""

    DENSE = 0
    GAPS = 1
    GAPS_HUFFMAN = 2
    MASK = 3
    MASK_HUFFMAN = 4
    MASK_RANGE = 5
    TILE_CODEBOOK = 6
    TILE_MAGNITUDES = 7

    @property
    def tiled(self) -> bool:
        """Whether tiles are stored and not elements."""
        return self >= Support.TILE_CODEBOOK


class Values(IntEnum):
    """How the stored elements are written."""

    RAW = 0
    CODEBOOK = 1
    CODEBOOK_HUFFMAN = 2
    CODEBOOK_RANGE = 3


ITEMS: tuple[np.dtype[Any] | None, ...] = (None, np.dtype("f2"), np.dtype("f4"))  # None: the tensor's own


@dataclass(frozen=True)
class Form:
    """One way to lay a tensor out.

    ``item`` is the type of raw values or codebook entries; ``walk`` and ``gap_width`` count only where
    not every element is stored, ``tile`` (rows, columns) only where tiles are.
    """

    support: Support
    values: Values
    item: np.dtype[Any]
    walk: int = 0
    gap_width: int = 0
    tile: tuple[int, int] = (0, 0)

    @property
    def version(self) -> int:
        """The least version of a file that has this form: 3 for tiles, 2 for range code."""
        if self.support.tiled:
            return 3
        return 2 if self.support == Support.MASK_RANGE or self.values == Values.CODEBOOK_RANGE else 1

    @property
    def text(self) -> str:
        """Name for people, as in ``gaps5-huffman+codebook-huffman-f2`` or ``tiles1x9-codebook``."""
        if self.support.tiled:
            return f"tiles{self.tile[0]}x{self.tile[1]}-{self.support.name.lower().removeprefix('tile_')}"
        support = self.support.name.lower().replace("_", "-").replace("gaps", f"gaps{self.gap_width}")
        return f"{support}+{self.values.name.lower().replace('_', '-')}-{self.item.kind}{self.item.itemsize}"


@dataclass(frozen=True)
class TensorRecord:
    """One tensor of a weights file.

    Parameters
    ----------
    nonzero : int
        Elements whose bits are not those of +0.
    payload_start, payload_bytes : int
        Where in the file its coded values stand.
    bytes : int
        Head and payload.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    form: Form
    nonzero: int
    payload_start: int
    payload_bytes: int
    bytes: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dense_bytes(self) -> int:
        """Bytes of the tensor once it is read."""
        return self.size * self.dtype.itemsize

    @property
    def layout(self) -> str:
        """Name of the layout, for people."""
        return self.form.text

    @property
    def walk(self) -> str:
        """Axes in the order they are walked, the last one fastest."""
        return ",".join(str(axis) for axis in WALKS[len(self.shape)][self.form.walk])


def record_bytes(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], form: Form, *, nonzero: int, payload_bytes: int
) -> bytes:
    """Write the head of a tensor."""
    own = dtype.newbyteorder("=")
    item = 0 if form.item == own else ITEMS.index(form.item)
    head = bytes([len(name)]) + name.encode("ascii")
    head += bytes([DTYPES.index(own) | len(shape) << 4])
    head += b"".join(varint_bytes(length) for length in shape)
    return (
        head + form_bytes(form, item) + varint_bytes(math.prod(shape) - nonzero) + varint_bytes(payload_bytes)
    )


def form_bytes(form: Form, item: int) -> bytes:
    """Write a form: the layout and what says where its elements or tiles lie."""
    layout = bytes([form.support | form.values << 3 | item << 5])
    if form.support.tiled:
        return layout + varint_bytes(form.tile[0]) + varint_bytes(form.tile[1])
    if form.support == Support.DENSE:
        return layout
    return layout + bytes([form.walk | (form.gap_width - 1 if form.gap_width else 0) << 5])


def read_record(cursor: ByteCursor, version: int) -> TensorRecord | None:
    """Read the head of the next tensor and skip its payload; None at the end mark.

    Parameters
    ----------
    version : of the file, which says what forms there may be

    Raises
    ------
    ContainerError
        The class names the field's fault.
    """
    start = cursor.position
    length = cursor.byte()
    if length == 0:
        return None
    try:
        name = cursor.take(length).decode("ascii")
    except UnicodeDecodeError as error:
        raise TensorNameError(f"Tensor name at byte {start} is not ASCII.") from error
    check_tensor_name(name)
    kind = cursor.byte()
    code, rank = kind & 15, kind >> 4
    if code >= len(DTYPES) or rank > MAX_RANK:
        raise TensorFieldError(
            f"Tensor {name!r} has dtype code {code} and rank {rank}; expected below {len(DTYPES)} and {MAX_RANK + 1}."
        )
    shape = tuple(cursor.varint() for _ in range(rank))
    size = math.prod(shape)
    if size > MAX_ELEMENTS:
        raise TensorFieldError(f"Tensor {name!r} of shape {shape} holds more than {MAX_ELEMENTS} elements.")
    record = read_body(cursor, name, DTYPES[code], shape, start)
    if record.form.version > version:
        what = "tiles" if record.form.support.tiled else "range code"
        raise TensorFieldError(f"Tensor {name!r} is in {what}, which files of version {version} do not have.")
    cursor.skip(record.payload_bytes)
    return record


def read_body(
    cursor: ByteCursor, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], start: int
) -> TensorRecord:
    """Read the head of a tensor behind its shape, up to its payload.

    Parameters
    ----------
    start : where its head began

    Raises
    ------
    TensorFieldError
        A field has an impossible value.
    """
    size = math.prod(shape)
    form = _read_form(cursor, name, dtype, shape)
    zeros, payload = cursor.varint(), cursor.varint()
    if zeros > size:
        raise TensorFieldError(f"Tensor {name!r} states {zeros} zeros among {size} elements.")
    if size == 0 and (payload or form != Form(Support.DENSE, Values.RAW, dtype)):
        raise TensorFieldError(f"Tensor {name!r} is empty but has a layout {form.text!r} of {payload} bytes.")
    at = cursor.position
    return TensorRecord(name, dtype, shape, form, size - zeros, at, payload, at + payload - start)


def _read_form(cursor: ByteCursor, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Form:
    byte = cursor.byte()
    support, values, item = byte & 7, byte >> 3 & 3, byte >> 5
    if support >= len(Support) or values >= len(Values) or item >= len(ITEMS):
        raise TensorFieldError(
            f"Tensor {name!r} has layout byte {byte:#04x}, which no layout of this version has."
        )
    narrow = ITEMS[item]
    if narrow is not None and (dtype.kind != "f" or narrow.itemsize >= dtype.itemsize):
        raise TensorFieldError(
            f"Tensor {name!r} of {dtype} states items of {narrow}, which are not narrower."
        )
    if Support(support).tiled:
        tile = cursor.varint(), cursor.varint()
        signed = dtype.kind == "f" or support == Support.TILE_CODEBOOK
        if values or narrow is not None or not signed or grid_shape(shape, tile) is None:
            raise TensorFieldError(
                f"Tensor {name!r} of {dtype} and shape {shape} has layout byte {byte:#04x} with tiles of {tile}; "
                "expected tiles that fill it, floats where they have signs, and nothing said of values and items."
            )
        return Form(Support(support), Values.RAW, dtype, tile=tile)
    walk = gap_width = 0
    if support != Support.DENSE:
        place = cursor.byte()
        walk, gap_width = place & 31, place >> 5
        has_gaps = support in {Support.GAPS, Support.GAPS_HUFFMAN}
        gap_width = gap_width + 1 if gap_width else 0
        if (
            walk >= len(WALKS[len(shape)])
            or has_gaps != (gap_width in WIDTHS)
            or (not has_gaps and gap_width)
        ):
            raise TensorFieldError(f"Tensor {name!r} of rank {len(shape)} has a bad place byte {place:#04x}.")
    return Form(Support(support), Values(values), dtype if narrow is None else narrow, walk, gap_width)
