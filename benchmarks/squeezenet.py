"""`squeezenet`: Song Han's published compressed SqueezeNet, decoded, encoded again, and packed by us.

The file is `squeezenet-deep-compression/compressed_SqueezeNet.net` of songhan/SqueezeNet-Deep-Compression.
``exact`` is 1 where the decoded layers give the file's own bytes again, and come back from our container with equal
arrays.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.row import MissingDataError, Row
from clearweight.artifact import Coder, WeightsReader
from clearweight.exporter.emission import pack
from clearweight.exporter.han_network import entries_of, read_han, squeezenet, write_han

BENCH = "squeezenet"
FILE = Path("squeezenet-deep-compression") / "compressed_SqueezeNet.net"


def run(data: Path | None, *, quick: bool) -> Iterable[Row]:
    """Read, write and pack the file; a quick run leaves the range coder out, which takes a minute to write."""
    if data is None or not (data / FILE).is_file():
        raise MissingDataError(f"squeezenet needs {FILE} under --data, looked for it in {data}.")
    source = (data / FILE).read_bytes()
    layers = read_han(source, squeezenet())
    entries = [entries_of(layer)[0] for layer in layers]
    tensors = [tensor for layer in layers for tensor in layer.tensors()]
    reference = 4 * sum(tensor.values.size for tensor in tensors)
    yield Row(BENCH, "file", "bytes", len(source), "bytes")
    yield Row(BENCH, "file", "entries", sum(codes.size for codes in entries), "1")
    yield Row(BENCH, "file", "fillers", sum(int((codes == 0).sum()) for codes in entries), "1")
    yield Row(BENCH, "file", "exact", float(write_han(layers) == source), "1")
    coders: tuple[Coder, ...] = ("huffman",) if quick else ("huffman", "range")
    for coder in coders:
        packed, _ = pack(tensors, coder)
        back = dict(WeightsReader(packed).tensors())
        exact = all(np.array_equal(back[tensor.name], tensor.values) for tensor in tensors)
        yield Row(BENCH, coder, "packed_bytes", len(packed), "bytes")
        yield Row(BENCH, coder, "ratio", reference / len(packed), "1")
        yield Row(BENCH, coder, "packed_over_file", len(packed) / len(source), "1")
        yield Row(BENCH, coder, "exact", float(exact), "1")
