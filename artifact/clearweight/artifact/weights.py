"""``weights.cwt``: all parameters of a model, packed (SPEC.md section 3)."""

import io
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from numpy.typing import NDArray

from clearweight.artifact.byte_cursor import ByteCursor
from clearweight.artifact.choice import Coder, choose
from clearweight.artifact.coded import CodedTensor
from clearweight.artifact.errors import (
    BadMagicError,
    ChecksumError,
    DuplicateTensorError,
    SizeLimitError,
    SurplusBytesError,
    TruncatedError,
    UnknownTensorError,
    UnsupportedVersionError,
)
from clearweight.artifact.layout import Candidate, smallest
from clearweight.artifact.manifest import Ledger, LedgerRow, Stage
from clearweight.artifact.payload import decode_payload
from clearweight.artifact.record import Support, TensorRecord, Values, read_record, record_bytes
from clearweight.artifact.tile import TiledTensor
from clearweight.artifact.tile_payload import decode_tiles, encode_tiles, tiled_form

MAGIC = b"\x89CWT"
VERSION = 1
RANGE_VERSION = 2  # may hold range code; older readers refuse it by its version
TILE_VERSION = 3  # may hold tiles and range code
END = b"\x00"
CHECKSUM_BYTES = 4
OVERHEAD_BYTES = len(MAGIC) + 1 + len(END) + CHECKSUM_BYTES
FREE_DENSE_BYTES = 64 << 20
MAX_EXPANSION = 1024  # dense bytes per byte of file beyond the free ones, as in deflate
_CHUNK = 1 << 20


@dataclass(frozen=True)
class WeightsReport:
    """What ``write_weights`` wrote.

    Parameters
    ----------
    records : one per tensor, in file order
    stages : one tuple per tensor
        Its size as float32, pruned, shared and packed, each measured.
    packed_bytes : int
        Size of the file: the records' bytes and ``overhead_bytes``.
    """

    records: tuple[TensorRecord, ...]
    stages: tuple[tuple[Stage, ...], ...]
    packed_bytes: int
    overhead_bytes: int = OVERHEAD_BYTES

    def ledger(self, stands_for: Mapping[str, int] = MappingProxyType({})) -> Ledger:
        """Account for every byte of the file.

        Parameters
        ----------
        stands_for : name -> how many of the reference's parameters the tensor stands for, where that is not all its
            elements: none for the scales of a quantized model, more where filters were taken out
        """
        rows = tuple(
            LedgerRow(r.name, r.shape, held, r.nonzero, r.layout, r.walk, r.bytes, _of(held, stages))
            for r, stages in zip(self.records, self.stages, strict=True)
            for held in [stands_for.get(r.name, r.size)]
        )
        return Ledger(4 * sum(row.parameters for row in rows), self.packed_bytes, self.overhead_bytes, rows)


def write_weights(
    file: BinaryIO, tensors: Iterable[CodedTensor], *, coder: Coder = "huffman", tiles: bool = False
) -> WeightsReport:
    """Pack tensors into a file, one at a time.

    The same tensors in the same order give the same bytes. Memory: one tensor, its code and its mask.

    Parameters
    ----------
    file : binary file, written from where it stands, never read and never sought
    tensors : names must be unique
    coder : "huffman", or "range" to choose per tensor whichever of both is smaller
        Range code is smaller and slower to read, and makes the file one of version 2.
    tiles : store those that are handed over as a `TiledTensor` by their tiles, where that is smaller
        Makes the file one of version 3, whatever the coder.

    Raises
    ------
    TensorNameError, CodedTensorError, DuplicateTensorError
        A tensor the format cannot hold.
    SizeLimitError
        The tensors are so empty that no reader would accept the file.
    """
    checksum = written = 0
    records: list[TensorRecord] = []
    names: set[str] = set()
    stages: list[tuple[Stage, ...]] = []

    def put(data: bytes) -> None:
        nonlocal checksum, written
        file.write(data)
        checksum = zlib.crc32(data, checksum)
        written += len(data)

    put(MAGIC + bytes([TILE_VERSION if tiles else VERSION if coder == "huffman" else RANGE_VERSION]))
    for tensor in tensors:
        tensor.validate()
        _claim_name(tensor.name, names)
        chosen = choose(tensor, coder)
        best, parts, nonzero = chosen.form, chosen.parts, chosen.content.nonzero
        if tiles and isinstance(tensor, TiledTensor):
            tiled = encode_tiles(tensor, coder)
            if sum(map(len, tiled)) < chosen.size:
                best, parts = tiled_form(tensor), tiled
        shape, dtype = tensor.values.shape, tensor.values.dtype.newbyteorder("=")
        payload = sum(len(part) for part in parts)
        head = record_bytes(tensor.name, dtype, shape, best, nonzero=nonzero, payload_bytes=payload)
        start = written
        for part in (head, *parts):
            put(part)
        records.append(
            TensorRecord(
                tensor.name, dtype, shape, best, nonzero, start + len(head), payload, written - start
            )
        )
        stages.append(_stages(tensor.values.size, chosen.found, records[-1]))
    put(END)
    put(checksum.to_bytes(CHECKSUM_BYTES, "little"))
    _check_expansion(records, written, None)
    return WeightsReport(tuple(records), tuple(stages), written)


def _stages(size: int, found: list[Candidate], record: TensorRecord) -> tuple[Stage, ...]:
    plain = (Support.DENSE, Support.GAPS, Support.MASK)
    head = record.bytes - record.payload_bytes
    sizes = {
        "float32": 4 * size,
        "pruned": smallest(found, plain, (Values.RAW,)).size + head,
        "shared": smallest(found, plain, (Values.RAW, Values.CODEBOOK)).size + head,
        "packed": record.bytes,
    }
    return tuple(Stage(name, 8 * stage / size if size else 0.0, stage) for name, stage in sizes.items())


def _of(parameters: int, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Count the stages of a tensor by the parameters it stands for, which are four bytes each to begin with."""
    sizes = [4 * parameters, *(stage.bytes for stage in stages[1:])]
    return tuple(
        Stage(stage.name, 8 * size / parameters if parameters else stage.bits_per_weight * bool(size), size)
        for stage, size in zip(stages, sizes, strict=True)
    )


def _claim_name(name: str, names: set[str]) -> None:
    if name in names:
        raise DuplicateTensorError(f"Tensor {name!r} is there twice; expected unique names.")
    names.add(name)


def _check_expansion(records: list[TensorRecord], file_bytes: int, most: int | None) -> None:
    dense = sum(record.dense_bytes for record in records)
    allowed = FREE_DENSE_BYTES + MAX_EXPANSION * file_bytes
    if dense > allowed or (most is not None and dense > most):
        bound = allowed if most is None else min(allowed, most)
        raise SizeLimitError(
            f"The tensors hold {dense} bytes once they are read, at most {bound} are accepted from "
            f"{file_bytes} packed bytes."
        )


class WeightsReader:
    """Read packed weights, tensor by tensor.

    Opening checks structure, names, sizes and the checksum without decoding anything; no file stays
    open in between.

    Parameters
    ----------
    source : path or bytes
    max_dense_bytes : int, optional
        Refuse more than this many bytes of tensors; there is always the bound of SPEC.md section 3.7.

    Raises
    ------
    ContainerError, UnsupportedVersionError
        The class names what is wrong.
    """

    def __init__(self, source: Path | str | bytes, *, max_dense_bytes: int | None = None) -> None:
        self._source = source
        with self._open() as file:
            self.file_bytes = file.seek(0, io.SEEK_END)
            records = _read_structure(file, self.file_bytes)
            _check_expansion(records, self.file_bytes, max_dense_bytes)
            _check_checksum(file, self.file_bytes)
        self.records: tuple[TensorRecord, ...] = tuple(records)

    @property
    def dense_bytes(self) -> int:
        """Bytes of all tensors once they are read."""
        return sum(record.dense_bytes for record in self.records)

    def tensors(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Decode one tensor after the other, in file order.

        Raises
        ------
        ContainerError
            A payload is malformed; the class names how.
        """
        with self._open() as file:
            for record in self.records:
                yield record.name, _read_tensor(file, record)

    def read(self, name: str) -> NDArray[Any]:
        """Decode one tensor.

        Raises
        ------
        UnknownTensorError
            There is none of that name.
        """
        for record in self.records:
            if record.name == name:
                with self._open() as file:
                    return _read_tensor(file, record)
        raise UnknownTensorError(
            f"No tensor {name!r}. Known: {', '.join(record.name for record in self.records)}."
        )

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        if isinstance(self._source, bytes):
            yield io.BytesIO(self._source)
        else:
            with Path(self._source).open("rb") as file:
                yield file


def _read_structure(file: BinaryIO, file_bytes: int) -> list[TensorRecord]:
    cursor = ByteCursor(file, 0, file_bytes, "weights.cwt")
    magic = cursor.peek(len(MAGIC))
    if magic != MAGIC[: len(magic)]:
        raise BadMagicError(f"Packed weights begin with {magic!r}, expected {MAGIC!r}.")
    cursor.take(len(MAGIC))
    version = cursor.byte()
    if not VERSION <= version <= TILE_VERSION:
        raise UnsupportedVersionError(
            f"Packed weights of version {version}, this reader knows versions {VERSION} to {TILE_VERSION}."
        )
    records: list[TensorRecord] = []
    names: set[str] = set()
    while (record := read_record(cursor, version)) is not None:
        _claim_name(record.name, names)
        records.append(record)
    cursor.skip(CHECKSUM_BYTES)
    if cursor.remaining:
        raise SurplusBytesError(
            f"{cursor.remaining} bytes stand behind the end of the packed weights; expected none."
        )
    return records


def _check_checksum(file: BinaryIO, file_bytes: int) -> None:
    checksum, left = 0, file_bytes - CHECKSUM_BYTES
    file.seek(0)
    while left:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            raise TruncatedError("The packed weights shrank while they were read.")
        checksum, left = zlib.crc32(chunk, checksum), left - len(chunk)
    stated = int.from_bytes(file.read(CHECKSUM_BYTES), "little")
    if stated != checksum:
        raise ChecksumError(
            f"Packed weights have checksum {checksum:#010x} but state {stated:#010x}: they were changed."
        )


def _read_tensor(file: BinaryIO, record: TensorRecord) -> NDArray[Any]:
    end = record.payload_start + record.payload_bytes
    cursor = ByteCursor(file, record.payload_start, end, f"Tensor {record.name!r}")
    return decode_tiles(cursor, record) if record.form.support.tiled else decode_payload(cursor, record)
