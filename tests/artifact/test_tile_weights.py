"""Files of version 3: tensors stored by their tiles, and every way in which such tiles may lie."""

import hashlib
import io
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearweight.artifact import CodedTensor, TileCodebookTensor, UnifiedTensor, WeightsReader, write_weights
from clearweight.artifact.byte_cursor import varint_bytes
from clearweight.artifact.errors import (
    ArtifactError,
    CodebookError,
    CodedTensorError,
    PositionError,
    SizeLimitError,
    SurplusBytesError,
    TensorFieldError,
    TruncatedError,
)
from clearweight.artifact.record import Support
from clearweight.artifact.tile_grid import from_tiles, grid_shape, tiles_of
from tests.artifact import samples
from tests.artifact.samples import coded, every_changed_byte_is_found, named, read_all, resealed, same_bits

GOLDEN = Path(__file__).parent / "golden"
TILES_SHA256 = "568c1b1c1342ddd927b883672277a51491113909707d8eac962450706fcafb8c"


def kernels(shape=(16, 12, 3, 3), codewords=8, seed=0) -> TileCodebookTensor:
    """A convolution of few kernels whose entries are few values too."""
    random = np.random.default_rng(seed)
    book = coded("book", (codewords, 9), 0.9, 16, seed)
    grid = grid_shape(shape, (1, 9))
    indices = random.integers(0, codewords, grid).astype(np.uint8)
    values = from_tiles(book.values[indices.reshape(-1)], shape, (1, 9))
    return TileCodebookTensor(name="conv", values=values, tile=(1, 9), book=book, tile_indices=indices)


def unified(shape=(24, 40), tile=(1, 4), seed=0, likely=(0.5, 0.4, 0.1), entries=8) -> UnifiedTensor:
    """A matrix of zero, unified and free tiles; magnitudes and free values are few."""
    random = np.random.default_rng(seed)
    kinds = random.choice(3, grid_shape(shape, tile), p=likely).astype(np.uint8)
    size = tile[0] * tile[1]
    u, f = (int((kinds == kind).sum()) for kind in (1, 2))
    magnitudes = random.choice(np.linspace(0.1, 0.9, entries), (u, 1)).astype(np.float16).astype(np.float32)
    negative = random.integers(0, 2, (u, size)).astype(np.uint8)
    free = coded("free", (f, size), 1.0, 16, seed)
    tiles = np.zeros((kinds.size, size), np.float32)
    tiles[kinds.reshape(-1) == 1] = np.where(negative, -magnitudes, magnitudes)
    tiles[kinds.reshape(-1) == 2] = free.values
    return UnifiedTensor(
        name="fc",
        values=from_tiles(tiles, shape, tile),
        tile=tile,
        kinds=kinds,
        magnitudes=CodedTensor("magnitudes", magnitudes),
        negative=negative,
        free=free,
    )


packed = partial(samples.packed, tiles=True)


def slow_tiles(values: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    matrix = values.reshape(values.shape[0], -1)
    found = [
        matrix[r : r + tile[0], c : c + tile[1]].reshape(-1)
        for r in range(0, matrix.shape[0], tile[0])
        for c in range(0, matrix.shape[1], tile[1])
    ]
    return np.array(found)


@pytest.mark.parametrize("tile", [(1, 9), (1, 3), (2, 1), (4, 6), (4, 36)])
def test_tiles_are_cut_along_the_grid_and_put_together_again(tile):
    values = np.random.default_rng(0).normal(size=(4, 4, 3, 3))

    cut = tiles_of(values, tile)

    assert np.array_equal(cut, slow_tiles(values, tile))
    assert np.array_equal(from_tiles(cut, values.shape, tile), values)
    assert grid_shape(values.shape, tile) == (4 // tile[0], 36 // tile[1])


def test_a_kernel_is_a_tile_of_one_row():
    values = np.random.default_rng(0).normal(size=(2, 3, 5, 5))

    assert np.array_equal(tiles_of(values, (1, 25)), values.reshape(6, 25))


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(1, 4), (2, 1), (4, 4), (24, 40)]),
    st.sampled_from(["huffman", "range"]),
)
def test_any_tiles_come_back_bit_for_bit(seed, tile, coder):
    random = np.random.default_rng(seed)
    likely = random.dirichlet(np.full(3, 0.4))
    likely[2] = 0 if random.random() < 0.3 else likely[2]
    given_tensors = [
        unified(tile=tile, seed=seed, likely=likely / likely.sum()),
        kernels((6, 8, 3, 3), int(random.integers(1, 49)), seed),
        coded("plain", (7, 9), 0.4, seed=seed),
    ]
    data = packed(given_tensors, coder)
    back = read_all(data)

    assert data[4] == 3
    assert all(same_bits(back[tensor.name], tensor.values) for tensor in given_tensors)


def test_tiles_take_what_their_parts_take():
    tensor = kernels((64, 32, 3, 3), 32)
    file = io.BytesIO()
    record = write_weights(file, [tensor], tiles=True).records[0]

    assert record.form.support == Support.TILE_CODEBOOK
    assert record.layout == "tiles1x9-codebook"
    five_bits, book = 64 * 32 * 5 / 8, 32 * 9 * 4 / 8 + 40
    assert record.bytes < five_bits + book + 60
    whole = unified((64, 128))
    record = write_weights(io.BytesIO(), [whole], tiles=True).records[0]
    u, f = (int((whole.kinds == kind).sum()) for kind in (1, 2))
    assert record.layout == "tiles1x4-magnitudes"
    assert record.bytes < whole.kinds.size * 1.5 / 8 + u * (4 + 3.1) / 8 + 4 * f * 4 / 8 + 130


def test_elements_are_written_where_they_are_smaller_and_where_tiles_were_not_asked_for():
    dense = kernels((6, 8, 3, 3), 48)
    one = UnifiedTensor(
        name="one",
        values=np.zeros((8, 8), np.float32),
        tile=(2, 2),
        kinds=np.zeros((4, 4), np.uint8),
        magnitudes=CodedTensor("m", np.zeros((0, 1), np.float32)),
        negative=np.zeros((0, 4), np.uint8),
        free=CodedTensor("f", np.zeros((0, 4), np.float32)),
    )
    file = io.BytesIO()
    assert {r.form.support.tiled for r in write_weights(file, [dense, one], tiles=True).records} == {False}
    plain = io.BytesIO()
    write_weights(plain, [kernels()])
    assert plain.getvalue()[4] == 1
    assert same_bits(read_all(plain.getvalue())["conv"], kernels().values)


def test_older_versions_hold_no_tiles():
    data = bytearray(packed([kernels()])[:-4])
    for version in (1, 2):
        data[4] = version
        with pytest.raises(TensorFieldError, match=f"in tiles, which files of version {version} do not have"):
            WeightsReader(resealed(bytes(data)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": (1, 8)}, "not filled by tiles"),
        ({"tile": (0, 9)}, "not filled by tiles"),
        ({"values": kernels().values * 2}, "differs from what its tiles give"),
        ({"tile_indices": kernels().tile_indices.reshape(12, 16)}, "indices of another grid"),
        ({"tile_indices": kernels().tile_indices + np.uint8(1)}, "8 codewords and the index 8"),
        ({"book": CodedTensor("book", np.ones((8, 8), np.float32))}, "other codewords"),
    ],
)
def test_tiles_that_contradict_themselves_are_not_written(change, message):
    with pytest.raises(CodedTensorError, match=message):
        packed([replace(kernels(), **change)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": unified().kinds.T.copy()}, "kinds of another grid"),
        ({"kinds": unified().kinds + np.uint8(1)}, "kinds of another grid"),
        ({"magnitudes": CodedTensor("m", -unified().magnitudes.values)}, "one above zero"),
        ({"negative": unified().negative * np.uint8(2)}, "signs of another shape"),
        ({"free": CodedTensor("f", np.ones((1, 4), np.float32))}, "free tiles of another shape"),
    ],
)
def test_unified_tiles_that_contradict_themselves_are_not_written(change, message):
    with pytest.raises(CodedTensorError, match=message):
        packed([replace(unified(), **change)])


@pytest.mark.parametrize("tensor", [kernels((6, 8, 3, 3), 5), unified((12, 20))], ids=["kernels", "unified"])
def test_a_file_cut_at_any_byte_and_any_changed_byte_is_found(tensor):
    data = packed([tensor])
    assert WeightsReader(data).records[0].form.support.tiled
    for place in range(len(data)):
        with pytest.raises(TruncatedError):
            WeightsReader(data[:place])
    every_changed_byte_is_found(data)


@pytest.mark.parametrize("coder", ["huffman", "range"])
def test_every_byte_changed_under_a_right_checksum_gives_a_named_error_or_a_tensor(coder):
    data = packed([kernels((6, 8, 3, 3), 5), unified((12, 20))], coder)[:-4]
    tracemalloc.start()
    for place in range(5, len(data)):
        for flip in (1, 2, 0x40, 0xFF):
            changed = bytearray(data)
            changed[place] ^= flip
            try:
                read_all(resealed(bytes(changed)))
            except ArtifactError as error:
                if not named(error):
                    raise
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 200e6  # a file may truthfully claim 64 MiB, and parts of that size; see section 3.7


def part(layout: bytes, zeros: int, payload: bytes) -> bytes:
    return layout + varint_bytes(zeros) + varint_bytes(len(payload)) + payload


def hand_made(layout: int, payload: bytes, *, shape=(2, 4), tile=(1, 2), zeros=0, kind=0x21) -> bytes:
    """A file of one tensor 'w' whose layout byte and payload are given; float32 of rank 2 by default."""
    head = b"\x01w" + bytes([kind]) + b"".join(map(varint_bytes, shape)) + bytes([layout])
    head += varint_bytes(tile[0]) + varint_bytes(tile[1]) + varint_bytes(zeros) + varint_bytes(len(payload))
    return resealed(b"\x89CWT\x03" + head + payload + b"\x00")


RAW, HALF = b"\x00", b"\x20"
BOOK = part(HALF, 0, np.array([1, 2, 3, 4], "<f2").tobytes())  # two codewords of two elements
INDICES = part(RAW, 2, bytes([0, 1, 1, 0]))
KINDS = part(RAW, 1, bytes([0, 1, 2, 1]))  # zero, unified, free, unified
MAGNITUDES = part(HALF, 0, np.array([0.5, 2], "<f2").tobytes())
SIGNS = part(RAW, 2, bytes([0, 1, 1, 0]))
FREE = part(HALF, 1, np.array([0, 7], "<f2").tobytes())


def test_hand_made_tiles_are_read_when_nothing_is_wrong():
    book = read_all(hand_made(6, b"\x01" + BOOK + INDICES))["w"]
    assert book.tolist() == [[1, 2, 3, 4], [3, 4, 1, 2]]
    found = read_all(hand_made(7, KINDS + MAGNITUDES + SIGNS + FREE, zeros=3))["w"]
    assert found.tolist() == [[0, 0, 0.5, -0.5], [0, 7, -2, 2]]


@pytest.mark.parametrize(
    ("layout", "payload", "fields", "error"),
    [
        (6, b"\x01" + BOOK + INDICES, {"tile": (1, 3)}, TensorFieldError),  # does not fill
        (6, b"\x01" + BOOK + INDICES, {"tile": (0, 2)}, TensorFieldError),
        (6, b"", {"shape": (0, 4)}, TensorFieldError),  # nothing to fill
        (6 | 1 << 3, b"\x01" + BOOK + INDICES, {}, TensorFieldError),  # values other than 0
        (6 | 1 << 5, b"\x01" + BOOK + INDICES, {}, TensorFieldError),  # an item
        (7, KINDS + MAGNITUDES + SIGNS + FREE, {"kind": 0x25}, TensorFieldError),  # integers have no sign
        (6, b"\x04" + BOOK + INDICES, {}, CodebookError),  # five codewords, four tiles
        (6, b"\x01" + BOOK + part(RAW, 2, bytes([0, 2, 1, 0])), {}, CodebookError),  # codeword 2 of two
        (6, b"\x01" + BOOK + INDICES + b"\x00", {}, SurplusBytesError),
        (6, b"\x01" + BOOK + part(RAW, 2, bytes([0, 1, 1, 0, 0])), {}, SurplusBytesError),
        (6, b"\x01" + BOOK, {}, TruncatedError),
        (6, b"\x01" + BOOK + INDICES[:-1], {}, TruncatedError),
        (6, b"\x01" + BOOK + part(RAW, 1, bytes([0, 1, 1, 0])), {}, PositionError),  # a part's own zeros
        (6, b"\x01" + BOOK + INDICES, {"zeros": 1}, PositionError),
        (6, b"\x01" + part(b"\x06\x01\x02", 0, BOOK + INDICES) + INDICES, {}, TensorFieldError),  # tiles in tiles
        (7, part(RAW, 1, bytes([0, 1, 3, 1])) + MAGNITUDES + SIGNS + FREE, {"zeros": 3}, TensorFieldError),
        (7, KINDS + part(HALF, 0, np.array([0.5, -2], "<f2").tobytes()) + SIGNS + FREE, {"zeros": 3}, CodebookError),
        (7, KINDS + part(HALF, 1, np.array([0.5, 0], "<f2").tobytes()) + SIGNS + FREE, {"zeros": 3}, CodebookError),
        (7, KINDS + MAGNITUDES + part(RAW, 2, bytes([0, 1, 2, 0])) + FREE, {"zeros": 3}, TensorFieldError),
        (7, KINDS + MAGNITUDES + SIGNS, {"zeros": 3}, TruncatedError),
        (7, KINDS + MAGNITUDES + SIGNS + FREE, {"zeros": 2}, PositionError),
    ],
)  # fmt: skip
def test_tiles_that_lie_are_refused(layout, payload, fields, error):
    with pytest.raises(error) as caught:
        read_all(hand_made(layout, payload, **fields))
    assert "'w'" in str(caught.value)


def test_absurd_tiles_are_refused_without_allocating():
    tracemalloc.start()
    for layout in (6, 7):
        with pytest.raises(SizeLimitError):
            read_all(hand_made(layout, b"\xff" + b"\x08\x00" * 3, shape=(2**14, 2**14), tile=(1, 1)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1e6


def test_decoding_tiles_takes_the_tensor_and_its_parts():
    tensor = unified((1000, 4000), likely=(0.5, 0.3, 0.2))
    data = packed([tensor])
    reader = WeightsReader(data)
    parts = sum(part.values.nbytes for part in tensor.parts)
    tracemalloc.start()
    back = reader.read("fc")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert same_bits(back, tensor.values)
    assert peak < tensor.values.nbytes + parts + 48e6


def frozen() -> list[CodedTensor]:
    squares = replace(unified((8, 12), (2, 2), likely=(0, 1, 0)), name="squares")
    return [kernels(), unified(), coded("plain", (10, 10), 0.4), squares]


def test_the_golden_tiles_open_and_are_still_written():
    data = (GOLDEN / "tiles.cwt").read_bytes()
    expected = np.load(GOLDEN / "tiles.npz")

    assert hashlib.sha256(data).hexdigest() == TILES_SHA256
    reader = WeightsReader(data)
    assert {r.form.support for r in reader.records} >= {Support.TILE_CODEBOOK, Support.TILE_MAGNITUDES}
    assert all(same_bits(values, expected[name]) for name, values in reader.tensors())
    assert packed(frozen()) == data
