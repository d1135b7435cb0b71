"""The entropy coder against its ideal, zstd and zlib; memory of packing a network the size of VGG-16.

``payload_over_ideal``: code, padding, stream index and code table over the bits of an unlimited Huffman
code. ``payload_over_zstd19``: the same over a zstd level 19 frame. ``decode_speed_over_zlib``: symbols
per second over those of raw deflate, ``Z_HUFFMAN_ONLY``, level 9 (medians of interleaved repeats).
``write_peak_over_dense``, ``read_peak_over_dense``: largest resident size of a process that does only
that, interpreter included, over the network's float32 bytes.
"""

import heapq
import io
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.row import Row
from clearweight.artifact import CodedTensor, WeightsReader, write_weights
from clearweight.artifact.byte_cursor import ByteCursor
from clearweight.artifact.gap import symbol_histogram
from clearweight.artifact.symbol_block import decode_huffman, encode_huffman

BENCH = "codec"
SYMBOLS = 1 << 22
REPEATS = 9
DENSITY = 0.075
CODEBOOK = 32
CONVOLUTIONS = ((3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512))
VGG16: dict[str, tuple[int, ...]] = {
    **{
        f"conv{i}.weight": (n_out, n_in, 3, 3)
        for i, (n_in, n_out) in enumerate((*CONVOLUTIONS, *((512, 512),) * 5), start=1)
    },
    "fc1.weight": (4096, 25088),
    "fc2.weight": (4096, 4096),
    "fc3.weight": (1000, 4096),
}


def run(data: Path | None, *, quick: bool) -> Iterable[Row]:
    """Measure all cases; ``quick`` uses a sixteenth of the symbols and of the network's widest layers."""
    del data
    for case, (sample, alphabet) in CASES.items():
        yield from _coder_rows(
            case, sample(SYMBOLS // 16 if quick else SYMBOLS), alphabet, 3 if quick else REPEATS
        )
    yield from _network_rows(quick)


def bits5_peaked(count: int) -> NDArray[np.uint8]:
    """Draw 32 levels of a two-sided geometric distribution, as trained codebook indices are."""
    weight = np.exp(-np.abs(np.arange(32) - 15.5) / 3.0)
    return np.random.default_rng(5).choice(32, size=count, p=weight / weight.sum()).astype(np.uint8)


def bits8_gaussian(count: int) -> NDArray[np.uint8]:
    """Draw 256 levels of a Gaussian, as uniformly quantised weights are."""
    levels = np.random.default_rng(8).normal(128.0, 28.0, size=count)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def gaps_sparse(count: int) -> NDArray[np.uint8]:
    """Draw gaps between survivors of a layer of density 7.5 %, as symbols of six bits with fillers."""
    gaps = np.random.default_rng(6).geometric(DENSITY, size=count).astype(np.int64) - 1
    fillers = gaps // 63
    symbols = np.zeros(int((fillers + 1).sum()), dtype=np.uint8)
    symbols[np.cumsum(fillers + 1) - 1] = gaps % 63 + 1
    assert int(symbol_histogram(gaps, np.ones_like(gaps), 6)[0]) == int((symbols == 0).sum())
    return symbols[:count]


CASES: dict[str, tuple[Callable[[int], NDArray[np.uint8]], int]] = {
    "bits5_peaked": (bits5_peaked, 32),
    "bits8_gaussian": (bits8_gaussian, 256),
    "gaps_sparse": (gaps_sparse, 64),
}


def ideal_huffman_bits(counts: NDArray[np.int64]) -> int:
    """Add up count times length of a Huffman code without a length limit (Huffman 1952)."""
    heap = [int(count) for count in counts if count]
    heapq.heapify(heap)
    bits = 0
    while len(heap) > 1:
        pair = heapq.heappop(heap) + heapq.heappop(heap)
        bits += pair
        heapq.heappush(heap, pair)
    return bits


def _coder_rows(case: str, symbols: NDArray[np.uint8], alphabet: int, repeats: int) -> Iterator[Row]:
    import zstandard

    payload = b"".join(encode_huffman(symbols, alphabet))
    raw = symbols.tobytes()
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    deflated = deflater.compress(raw) + deflater.flush()

    def ours() -> bytes:
        cursor = ByteCursor(io.BytesIO(payload), 0, len(payload), case)
        return b"".join(chunk.tobytes() for chunk in decode_huffman(cursor, symbols.size, alphabet))

    def theirs() -> bytes:
        return zlib.decompress(deflated, -15)

    decoders: tuple[Callable[[], bytes], ...] = (ours, theirs)
    assert all(decode() == raw for decode in decoders)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for decode, times in zip(decoders, seconds, strict=True):
            begin = time.perf_counter()
            decode()
            times.append(time.perf_counter() - begin)
    median, zlib_median = (statistics.median(times) for times in seconds)
    ratios = sorted(b / a for a, b in zip(*seconds, strict=True))
    ideal = ideal_huffman_bits(np.bincount(symbols)) / 8
    zstd = len(zstandard.ZstdCompressor(level=19).compress(raw))
    yield Row(BENCH, case, "payload_over_ideal", len(payload) / ideal, "ratio")
    yield Row(BENCH, case, "payload_over_zstd19", len(payload) / zstd, "ratio")
    yield Row(BENCH, case, "decode_speed_over_zlib", zlib_median / median, "ratio")
    yield Row(BENCH, case, "decode_speed_over_zlib_least", ratios[0], "ratio")
    yield Row(BENCH, case, "decode_symbols_per_second", symbols.size / median, "1/s")


def network_tensors(shapes: dict[str, tuple[int, ...]]) -> Iterator[CodedTensor]:
    """Make seeded pruned tensors with a codebook each, one at a time and without large temporaries."""
    for seed, (name, shape) in enumerate(shapes.items()):
        random = np.random.default_rng(seed)
        book = np.zeros(CODEBOOK, dtype=np.float32)
        book[1:] = np.sort(random.normal(0.0, 0.05, CODEBOOK - 1)).astype(np.float16)
        likely = np.exp(-np.abs(book[1:]) / 0.04)
        indices = np.zeros(int(np.prod(shape)), dtype=np.uint8)
        for start in range(0, indices.size, 1 << 20):
            chunk = indices[start : start + (1 << 20)]
            kept = np.flatnonzero(random.random(chunk.size, dtype=np.float32) < DENSITY)
            chunk[kept] = random.choice(CODEBOOK - 1, size=kept.size, p=likely / likely.sum()) + 1
        values = np.empty(indices.size, dtype=np.float32)
        for start in range(0, indices.size, 1 << 20):
            values[start : start + (1 << 20)] = book[indices[start : start + (1 << 20)]]
        yield CodedTensor(name, values.reshape(shape), book, indices.reshape(shape))
        bias = random.normal(0.0, 0.1, shape[0]).astype(np.float16).astype(np.float32)
        yield CodedTensor(name.replace("weight", "bias"), bias)


def _network_rows(quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.cwt"
        write = _measured("write", path, quick)
        read = _measured("read", path, quick)
    case = "vgg16_shape"
    yield Row(BENCH, case, "write_peak_over_dense", write["peak"] / write["dense"], "ratio")
    yield Row(BENCH, case, "read_peak_over_dense", read["peak"] / read["dense"], "ratio")
    allowed = 1.1 * read["dense"] + 32e6
    yield Row(BENCH, case, "read_peak_over_allowed", read["peak"] / allowed, "ratio")
    yield Row(BENCH, case, "write_seconds", write["seconds"], "s")
    yield Row(BENCH, case, "read_seconds", read["seconds"], "s")
    yield Row(BENCH, case, "packed_bytes", write["packed"], "B")
    yield Row(BENCH, case, "ratio", write["dense"] / write["packed"], "ratio")


def _measured(what: str, path: Path, quick: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.codec", what, str(path), *(["--quick"] if quick else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def child(arguments: list[str]) -> dict[str, float]:
    """Write or read the network in this process and report its peak resident size."""
    what, path, quick = arguments[0], Path(arguments[1]), "--quick" in arguments
    shapes = {name: VGG16[name] for name in list(VGG16)[:8]} if quick else VGG16
    begin = time.perf_counter()
    if what == "write":
        with path.open("wb") as file:
            report = write_weights(file, network_tensors(shapes))
        dense, packed = report.ledger().reference_bytes, report.packed_bytes
    else:
        reader = WeightsReader(path)
        arrays = dict(reader.tensors())
        dense, packed = sum(array.nbytes for array in arrays.values()), reader.file_bytes
    unit = 1 if platform.system() == "Darwin" else 1024
    return {
        "seconds": time.perf_counter() - begin,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "dense": dense,
        "packed": packed,
    }


if __name__ == "__main__":
    print(json.dumps(child(sys.argv[1:])))
