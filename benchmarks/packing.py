"""`packing`: Huffman against range code on pruned and shared networks, stream by stream, and the time to read both.

The networks are those of `compression`, taken from its checkpoints where it ran before, else trained. ``entropy_bytes``
of positions takes every element by itself at the tensor's density, that of values every value by itself: what a coder
without context can reach at best. Times are medians over repeats, of ours alone.
"""

import io
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.row import MissingDataError, Row
from benchmarks.tasks import NETWORKS, WORK, Task, recipe_of
from clearweight.artifact import CodedTensor, Coder, WeightsReader, write_weights
from clearweight.artifact.layout import content_of
from clearweight.artifact.payload import encode_payload
from clearweight.artifact.record import Support, TensorRecord, Values
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.compress import coded_tensors
from clearweight.exporter.compression import compress
from clearweight.exporter.preparation import prepare
from clearweight.exporter.training import silent

BENCH = "packing"
CODERS: tuple[Coder, ...] = ("huffman", "range")
REPEATS = 7


def run(
    data: Path | None, *, quick: bool, networks: Sequence[str] = ("lenet_300_100", "lenet_5", "ecg_1d")
) -> Iterable[Row]:
    """Pack networks of `compression` with either coder."""
    for file in dict.fromkeys(NETWORKS[name].file for name in networks):
        if data is None or not (data / file).is_file():
            raise MissingDataError(f"packing needs {file} under --data, looked for it in {data}.")
    kept = Checkpoints(WORK / "checkpoints")
    for network in networks:
        for name in NETWORKS[network].recipes:
            prepared = prepare(recipe_of(name, Task(network, 0, data, quick)), silent, kept)
            yield from packed_rows(f"{network}/{name}", coded_tensors(compress(prepared)))


def packed_rows(case: str, tensors: Sequence[CodedTensor]) -> Iterator[Row]:
    """Measure one network: the whole file, then positions and values of its pruned tensors."""
    sizes = {}
    for coder in CODERS:
        file = io.BytesIO()
        start = time.perf_counter()
        records = write_weights(file, tensors, coder=coder).records
        yield Row(BENCH, case, f"{coder}_write_ms", 1000 * (time.perf_counter() - start), "ms")
        sizes[coder] = len(file.getvalue())
        yield Row(BENCH, case, f"{coder}_bytes", sizes[coder], "bytes")
        yield Row(BENCH, case, f"{coder}_read_ms", read_milliseconds(file.getvalue()), "ms")
        streams = [_stream_bytes(t, r) for t, r in zip(tensors, records, strict=True) if t.values.ndim > 1]
        for name, size in zip(("positions", "values"), np.sum(streams, axis=0).tolist(), strict=True):
            yield Row(BENCH, case, f"{coder}_{name}_bytes", size, "bytes")
    yield Row(BENCH, case, "range_over_huffman", sizes["range"] / sizes["huffman"], "1")
    ideal = np.sum([_entropy_bytes(t) for t in tensors if t.values.ndim > 1], axis=0)
    for name, size in zip(("positions", "values"), ideal.tolist(), strict=True):
        yield Row(BENCH, case, f"entropy_{name}_bytes", round(size), "bytes")


def read_milliseconds(data: bytes) -> float:
    """Return the median time to read all tensors."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _tensor in WeightsReader(data).tensors():
            pass
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def _stream_bytes(tensor: CodedTensor, record: TensorRecord) -> tuple[int, int]:
    """Return the bytes of positions and of values, codebook included."""
    if record.form.support == Support.DENSE:
        return 0, record.payload_bytes
    raw = replace(record.form, values=Values.RAW, item=record.dtype)
    positions = sum(map(len, encode_payload(content_of(tensor), raw))) - 4 * record.nonzero
    return positions, record.payload_bytes - positions


def _entropy_bytes(tensor: CodedTensor) -> tuple[float, float]:
    mask = tensor.values != 0
    _, counts = np.unique(tensor.values[mask], return_counts=True)
    return entropy_bytes(np.array([mask.sum(), (~mask).sum()])), entropy_bytes(counts)


def entropy_bytes(counts: np.ndarray) -> float:
    """Return the bytes of a sequence with this histogram at its entropy."""
    used = counts[counts > 0]
    return float(-(used * np.log2(used / used.sum())).sum()) / 8
