"""One test per attack of SPEC.md section 6 on weights.cwt; files are made by hand and carry a right checksum."""

import tracemalloc

import numpy as np
import pytest

from clearweight.artifact import CodedTensor, WeightsReader
from clearweight.artifact.byte_cursor import varint_bytes
from clearweight.artifact.errors import (
    ArtifactError,
    BadMagicError,
    ChecksumError,
    CodebookError,
    CodeStreamError,
    CodeTableError,
    DuplicateTensorError,
    PositionError,
    SizeLimitError,
    SurplusBytesError,
    TensorFieldError,
    TensorNameError,
    TruncatedError,
    UnsupportedVersionError,
)
from tests.artifact.samples import (
    coded,
    every_changed_byte_is_found,
    named,
    network,
    packed,
    read_all,
    resealed,
    same_bits,
)

MAGIC = b"\x89CWT\x01"
F4_RANK1 = b"\x11"


def weights_file(*records: bytes) -> bytes:
    return resealed(MAGIC + b"".join(records) + b"\x00")


def record(
    kind: bytes, shape: tuple[int, ...], layout: bytes, zeros: int, payload: bytes, name: bytes = b"w"
) -> bytes:
    dims = b"".join(varint_bytes(length) for length in shape)
    head = bytes([len(name)]) + name + kind + dims + layout + varint_bytes(zeros)
    return head + varint_bytes(len(payload)) + payload


def test_hand_made_files_are_read_when_nothing_is_wrong():
    back = read_all(
        weights_file(record(F4_RANK1, (3,), b"\x01\x40", 2, b"\x00\x02" + np.float32(5).tobytes()))
    )

    assert back["w"].tolist() == [0.0, 5.0, 0.0]


def test_a_file_cut_at_any_byte_is_truncated():
    data = packed(network())
    for cut in range(len(data)):
        with pytest.raises(TruncatedError):
            WeightsReader(data[:cut])


def test_every_changed_byte_is_found():
    every_changed_byte_is_found(packed(network()[:2]))


def test_a_changed_checksum_is_found():
    data = packed(network())
    with pytest.raises(ChecksumError, match="they were changed"):
        WeightsReader(data[:-1] + bytes([data[-1] ^ 1]))


def test_bytes_behind_the_end_are_refused():
    with pytest.raises(SurplusBytesError):
        WeightsReader(packed(network()) + b"\x00")


def test_another_magic_and_version_are_refused():
    data = packed([])
    with pytest.raises(BadMagicError):
        WeightsReader(b"PK\x03\x04" + data[4:])
    with pytest.raises(UnsupportedVersionError, match="version 4"):
        WeightsReader(resealed(data[:4] + b"\x04" + data[5:-4]))


@pytest.mark.parametrize(
    "name", [b"../w", b"/w", b"a//b", b"a\\b", b"a b", b"a\x00", b"\xc3\xa9", b"a/..", b"w" * 201]
)
def test_names_like_path_tricks_are_refused(name):
    with pytest.raises(TensorNameError):
        WeightsReader(weights_file(record(F4_RANK1, (1,), b"\x00", 0, b"\x00\x00\x80\x3f", name)))


def test_two_tensors_of_one_name_are_refused():
    one = record(F4_RANK1, (1,), b"\x00", 0, np.float32(1).tobytes())
    with pytest.raises(DuplicateTensorError):
        WeightsReader(weights_file(one, one))


@pytest.mark.parametrize(
    ("kind", "shape", "layout", "zeros", "payload"),
    [
        (b"\x17", (1,), b"\x00", 0, b"1234"),  # no dtype 7
        (b"\x91", (1,) * 9, b"\x00", 0, b"1234"),  # rank 9
        (b"\x81", (2**62,) * 8, b"\x00", 0, b""),  # product beyond 2^40
        (b"\x11", (1,), b"\x05", 0, b"1234"),  # no support 5
        (b"\x11", (1,), b"\x18", 0, b"1234"),  # no values 3
        (b"\x11", (1,), b"\x60", 0, b"1234"),  # no item 3
        (b"\x11", (1,), b"\x40", 0, b"1234"),  # item as wide as the tensor
        (b"\x16", (1,), b"\x20", 0, b"12"),  # an integer has no float items
        (b"\x11", (1,), b"\x00", 2, b"1234"),  # more zeros than elements
        (b"\x11", (0,), b"\x00", 0, b"1"),  # payload without elements
        (b"\x11", (0,), b"\x08", 0, b""),  # layout without elements
        (b"\x11", (1,), b"\x01\x41", 0, b"1234"),  # walk 1 of rank 1
        (b"\x11", (1,), b"\x01\x20", 0, b"1234"),  # gaps of width 2
        (b"\x11", (1,), b"\x03\x40", 0, b"1234"),  # a mask with a gap width
        (b"\x61", (1,) * 6, b"\x01\x41", 0, b"1234"),  # rank 6 has one walk
    ],
)
def test_impossible_fields_are_refused(kind, shape, layout, zeros, payload):
    with pytest.raises(TensorFieldError):
        WeightsReader(weights_file(record(kind, shape, layout, zeros, payload)))


def test_a_payload_longer_than_the_file_is_truncated():
    head = b"\x01w" + F4_RANK1 + varint_bytes(1) + b"\x00\x00" + varint_bytes(2**62)
    with pytest.raises(TruncatedError):
        WeightsReader(weights_file(head))


@pytest.mark.parametrize(
    "body",
    [
        record(F4_RANK1, (2**39,), b"\x08", 2**39, b"\x00\x00\x00\x00\x00"),  # a constant of two terabytes
        record(F4_RANK1, (2**30,), b"\x00", 0, b"1234"),
        record(F4_RANK1, (2**25,), b"\x02\xe0", 2**25 - 1, b"\xff\xff\xff\x7f\xf4\x00"),
        record(F4_RANK1, (2**25,), b"\x04\x00", 1, b"\xf4\xff"),
    ],
)
def test_absurd_sizes_are_refused_without_allocating(body):
    tracemalloc.start()
    with pytest.raises(SizeLimitError):
        read_all(weights_file(body))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1e6


@pytest.mark.parametrize(
    ("layout", "zeros", "payload", "error"),
    [
        (b"\x00", 0, b"1234", TruncatedError),  # three values need twelve bytes
        (b"\x00", 0, b"1" * 13, SurplusBytesError),
        (b"\x00", 1, b"1234" * 3, PositionError),  # no zero among them
        (b"\x01\x40", 2, b"\x00\x04" + b"1234", PositionError),  # three zeros, then behind the end
        (b"\x01\x40", 2, b"\x01\x01" + b"1234", PositionError),  # a filler at the end
        (b"\x01\x40", 2, b"\x01\x11" + b"1234", PositionError),  # two values where one is stated
        (b"\x01\x40", 2, b"\x04\x01" + b"1234", PositionError),  # more fillers than elements
        (b"\x01\x40", 2, b"\x00\x09" + b"1234", SurplusBytesError),  # a padding bit behind the gaps
        (b"\x01\x40", 2, b"\x00\x01" + b"\x00" * 4, CodebookError),  # a stored zero
        (b"\x01\x40", 2, b"\x00\x01" + b"1234" + b"5", SurplusBytesError),
        (b"\x03\x00", 2, b"\x03" + b"1234", PositionError),  # two bits where one value is stated
        (b"\x03\x00", 2, b"\x09" + b"1234", SurplusBytesError),  # a bit behind the mask
        (b"\x08", 0, b"\x01" + b"12341234" + b"\x00", CodebookError),  # a repeated entry
        (b"\x08", 0, b"\x02" + b"123456789abc" + b"\x30", CodebookError),  # index 3 of three entries
        (b"\x08", 0, b"\x01" + b"12345678" + b"\x08", SurplusBytesError),  # a bit behind the indices
        (
            b"\x09\x40",
            2,
            b"\x00\x01" + b"\x00" + b"\x00" * 4,
            CodebookError,
        ),  # zero as an entry of a sparse codebook
        (b"\x10", 0, b"\x01" + b"12345678" + b"\x14\x03\x00", CodeTableError),  # lengths 1 and 0
        (b"\x10", 0, b"\x01" + b"12345678" + b"\xf4\x02", CodeTableError),  # constant symbol 2 of two
        (b"\x10", 0, b"\x01" + b"12345678" + b"\x14\x00\x08", SurplusBytesError),  # a bit behind the code
        (b"\x10", 0, b"\x01" + b"12345678" + b"\x14", TruncatedError),
        (b"\x10", 0, b"\x01" + b"12345678" + b"\x16\x00\x00", CodeStreamError),  # streams of 2^13 symbols
    ],
)
def test_payloads_that_lie_are_refused(layout, zeros, payload, error):
    data = weights_file(record(F4_RANK1, (3,), layout, zeros, payload))

    assert WeightsReader(data).records  # the head is right
    with pytest.raises(error) as caught:
        read_all(data)
    assert "'w'" in str(caught.value)


def test_lying_about_the_number_of_zeros_is_found_in_every_layout():
    for tensor in (coded("w", (9, 9), 0.1), coded("w", (9, 9), 0.5), coded("w", (9, 9), 1.0)):
        data = bytearray(packed([tensor])[:-4])
        place = 11 if data[10] & 7 == 0 else 12  # support 0 has no place byte
        assert data[place] == 81 - np.count_nonzero(tensor.values)
        data[place] ^= 1
        with pytest.raises(ArtifactError) as caught:
            read_all(resealed(bytes(data)))
        assert named(caught.value)


def test_mutations_with_a_right_checksum_give_a_named_error_or_a_tensor():
    random = np.random.default_rng(0)
    data = packed(network())[:-4]
    for _ in range(200):
        changed = bytearray(data)
        changed[random.integers(5, len(data))] = random.integers(0, 256)
        try:
            read_all(resealed(bytes(changed)))
        except ArtifactError as error:
            if not named(error):
                raise


def test_a_tensor_survives_the_round_through_a_hand_made_file():
    tensor = CodedTensor("w", np.array([1.0, 2.0, 1.0], dtype=np.float32))

    assert same_bits(read_all(packed([tensor]))["w"], tensor.values)
