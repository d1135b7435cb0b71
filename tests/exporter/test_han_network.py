"""A small file of the same layout, written here byte by byte; the published one is read by `benchmarks squeezenet`."""

import struct
import tracemalloc

import numpy as np
import pytest

from clearweight.artifact import WeightsReader
from clearweight.exporter.emission import pack
from clearweight.exporter.errors import HanFileError
from clearweight.exporter.han_network import HanLayer, entries_of, read_han, squeezenet, write_han

LAYERS = (HanLayer("conv", (3, 2, 3, 3)), HanLayer("fc", (5, 40), bits=4))


def slow_file(seed: int = 0) -> tuple[bytes, list[np.ndarray]]:
    """Write a file one entry after the other, as the layout is described, and what it means."""
    random = np.random.default_rng(seed)
    counts, bodies, weights = [], [], []
    for layer, density in zip(LAYERS, (0.7, 0.06), strict=True):
        book = np.concatenate([[0.0], random.normal(size=(1 << layer.bits) - 1)]).astype("<f4")
        bias = random.normal(size=layer.shape[0]).astype("<f4")
        flat = np.where(
            random.random(layer.size) < density, random.integers(1, 1 << layer.bits, layer.size), 0
        )
        codes, gaps, zeros = [], [], 0
        for code in flat.tolist():
            if code:
                codes.append(code)
                gaps.append(zeros)
                zeros = 0
            elif zeros == 15:
                codes.append(0)
                gaps.append(15)
                zeros = 0
            else:
                zeros += 1
        while codes and codes[-1] == 0:  # nothing is written behind the last weight
            codes.pop()
            gaps.pop()

        def halves(values: list[int]) -> bytes:
            padded = values + [0] * (len(values) % 2)
            return bytes(low | high << 4 for low, high in zip(padded[::2], padded[1::2], strict=True))

        counts.append(len(codes))
        bodies.append(
            book.tobytes()
            + bias.tobytes()
            + (bytes(codes) if layer.bits == 8 else halves(codes))
            + halves(gaps)
        )
        weights += [book[flat].reshape(layer.shape), bias]
    return struct.pack(f"<{len(counts)}I", *counts) + b"".join(bodies), weights


@pytest.mark.parametrize("seed", range(5))
def test_a_file_is_read_and_written_again_to_the_same_bytes(seed):
    data, expected = slow_file(seed)
    read = read_han(data, LAYERS)

    found = [tensor.values for layer in read for tensor in layer.tensors()]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert write_han(read) == data


def test_fillers_bridge_gaps_of_sixteen_and_more():
    read = read_han(slow_file(1)[0], LAYERS)
    codes, gaps = entries_of(read[1])

    assert (codes == 0).any()
    assert (gaps[codes == 0] == 15).all()


def test_it_goes_through_the_container_and_back_with_equal_arrays():
    tensors = [tensor for layer in read_han(slow_file()[0], LAYERS) for tensor in layer.tensors()]
    data, _ = pack(tensors, "range")

    back = dict(WeightsReader(data).tensors())
    assert all(np.array_equal(back[tensor.name], tensor.values) for tensor in tensors)


def boundaries(data: bytes) -> list[int]:
    counts = struct.unpack("<2I", data[:8])
    at, found = 8, [0, 4, 8]
    for layer, entries in zip(LAYERS, counts, strict=True):
        halves = (entries + 1) // 2
        for size in (4 << layer.bits, 4 * layer.shape[0], entries if layer.bits == 8 else halves, halves):
            at += size
            found.append(at)
    assert at == len(data)
    return found


def test_a_file_cut_at_or_beside_any_part_is_refused():
    data, _ = slow_file()
    for boundary in boundaries(data)[:-1]:
        for cut in (boundary, boundary + 1):
            with pytest.raises(HanFileError, match="The file ends at byte"):
                read_han(data[:cut], LAYERS)


def test_bytes_behind_the_last_layer_are_refused():
    with pytest.raises(HanFileError, match="1 bytes stand behind the last layer"):
        read_han(slow_file()[0] + b"\x00", LAYERS)


def test_an_absurd_count_is_refused_before_anything_is_allocated():
    data = bytearray(slow_file()[0])
    data[0:4] = b"\xff\xff\xff\xff"
    tracemalloc.start()
    with pytest.raises(HanFileError, match="Layer 'conv' states 4294967295 entries for 54 weights"):
        read_han(bytes(data), LAYERS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e5


def test_one_entry_more_shifts_the_rest_and_is_refused():
    data = bytearray(slow_file()[0])
    data[0:4] = (struct.unpack("<I", data[:4])[0] + 1).to_bytes(4, "little")
    with pytest.raises(HanFileError):
        read_han(bytes(data), LAYERS)


def test_a_gap_past_the_end_is_refused():
    data, _ = slow_file()
    changed = bytearray(data)
    changed[-8:] = b"\xff" * 8
    with pytest.raises(HanFileError, match="The gaps of layer 'fc' lead to weight"):
        read_han(bytes(changed), LAYERS)


def test_a_codebook_that_does_not_begin_with_zero_is_refused():
    data = bytearray(slow_file()[0])
    data[8:12] = struct.pack("<f", 0.5)
    with pytest.raises(HanFileError, match=r"begins with 0\.5, expected 0"):
        read_han(bytes(data), LAYERS)


def test_squeezenet_has_its_parameters():
    layers = squeezenet()

    assert len(layers) == 26
    assert sum(layer.size for layer in layers) == 1_244_448
    assert sum(layer.shape[0] for layer in layers) == 3_976
