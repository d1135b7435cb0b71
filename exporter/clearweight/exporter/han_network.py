"""Song Han's published form of a compressed network: pruned, shared, positions as 4-bit gaps; no entropy code.

Little-endian, without magic or padding: the entries of every layer as uint32, then per layer a codebook (float32, 256
values for 8-bit codes, 16 for 4-bit), the biases (float32), the codes (a byte each, or two to a byte, low nibble
first) and the gaps (two to a byte, low nibble first). An entry says how many zeros lie before its weight and which
codebook value that is; an entry of code 0 and gap 15 is a filler and stands for 16 zeros.

References
----------
Han, Mao and Dally, Deep Compression, ICLR 2016, section 2; the file of songhan/SqueezeNet-Deep-Compression.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import CodedTensor
from clearweight.exporter.errors import HanFileError

_FILLER_GAP = 15
_COUNT_BYTES, _FLOAT_BYTES = 4, 4


@dataclass(frozen=True)
class HanLayer:
    """What the file does not say of a layer: its name, its weight's shape (outputs first) and the bits of a code."""

    name: str
    shape: tuple[int, ...]
    bits: int = 8

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class HanWeights:
    """One layer as it was stored.

    Attributes
    ----------
    codebook : float32, (256,) or (16,); entry 0 is zero
    bias : float32, (outputs,)
    codes : uint8, the weight's shape; 0 where nothing was stored
    """

    layer: HanLayer
    codebook: NDArray[np.float32]
    bias: NDArray[np.float32]
    codes: NDArray[np.uint8]

    def tensors(self) -> tuple[CodedTensor, CodedTensor]:
        """Return weight and bias as the packed format takes them."""
        weight = CodedTensor(
            f"{self.layer.name}.weight", self.codebook[self.codes], self.codebook, self.codes
        )
        return weight, CodedTensor(f"{self.layer.name}.bias", self.bias)


class _Parts:
    """A file handed out from its beginning, each part by name."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int, what: str) -> bytes:
        part = self._data[self._at : self._at + count]
        if len(part) < count:
            raise HanFileError(
                f"The file ends at byte {len(self._data)}, inside {what}, which takes {count} bytes from {self._at}."
            )
        self._at += count
        return part

    def finish(self) -> None:
        if self._at < len(self._data):
            raise HanFileError(
                f"{len(self._data) - self._at} bytes stand behind the last layer, expected none."
            )


def read_han(data: bytes, layers: Sequence[HanLayer]) -> list[HanWeights]:
    """Read a file whose layers are known.

    Raises
    ------
    HanFileError
        The file is cut short or goes on, a count or a gap leads beyond a tensor, or a codebook's first entry is not 0.
    """
    parts = _Parts(data)
    counts = np.frombuffer(parts.take(_COUNT_BYTES * len(layers), "the entry counts"), dtype="<u4").tolist()
    read = [_read_layer(parts, layer, entries) for layer, entries in zip(layers, counts, strict=True)]
    parts.finish()
    return read


def _read_layer(parts: _Parts, layer: HanLayer, entries: int) -> HanWeights:
    what = f"layer {layer.name!r}"
    if entries > layer.size:
        raise HanFileError(f"Layer {layer.name!r} states {entries} entries for {layer.size} weights.")
    book = _floats(parts, 1 << layer.bits, f"the codebook of {what}")
    if book[0] != 0:
        raise HanFileError(f"The codebook of {what} begins with {book[0]}, expected 0.")
    bias = _floats(parts, layer.shape[0], f"the biases of {what}")
    halves = (entries + 1) // 2
    packed = parts.take(entries if layer.bits == 8 else halves, f"the codes of {what}")
    codes = np.frombuffer(packed, dtype=np.uint8) if layer.bits == 8 else _nibbles(packed)[:entries]
    gaps = _nibbles(parts.take(halves, f"the gaps of {what}"))[:entries]
    positions = np.cumsum(gaps.astype(np.int64) + 1) - 1
    if entries and int(positions[-1]) >= layer.size:
        raise HanFileError(f"The gaps of {what} lead to weight {int(positions[-1])} of {layer.size}.")
    flat = np.zeros(layer.size, dtype=np.uint8)
    flat[positions] = codes
    return HanWeights(layer, book, bias, flat.reshape(layer.shape))


def _floats(parts: _Parts, count: int, what: str) -> NDArray[np.float32]:
    return np.frombuffer(parts.take(_FLOAT_BYTES * count, what), dtype="<f4").astype(np.float32)


def _nibbles(packed: bytes) -> NDArray[np.uint8]:
    both = np.frombuffer(packed, dtype=np.uint8)
    return np.stack([both & 15, both >> 4], axis=1).reshape(-1)


def entries_of(weights: HanWeights) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return codes and gaps of a layer's entries, fillers included; each uint8, (entries,)."""
    flat = weights.codes.reshape(-1)
    positions = np.flatnonzero(flat)
    gaps = np.diff(positions, prepend=-1) - 1
    ends = np.cumsum(gaps // (_FILLER_GAP + 1) + 1)
    count = int(ends[-1]) if ends.size else 0
    codes, steps = np.zeros(count, dtype=np.uint8), np.full(count, _FILLER_GAP, dtype=np.uint8)
    codes[ends - 1] = flat[positions]
    steps[ends - 1] = gaps % (_FILLER_GAP + 1)
    return codes, steps


def write_han(weights: Sequence[HanWeights]) -> bytes:
    """Write a file in Han's form."""
    entries = [entries_of(layer) for layer in weights]
    out = [np.array([codes.size for codes, _ in entries], dtype="<u4").tobytes()]
    for layer, (codes, gaps) in zip(weights, entries, strict=True):
        out += [layer.codebook.astype("<f4").tobytes(), layer.bias.astype("<f4").tobytes()]
        out += [codes.tobytes() if layer.layer.bits == 8 else _paired(codes), _paired(gaps)]
    return b"".join(out)


def _paired(nibbles: NDArray[np.uint8]) -> bytes:
    even = np.append(nibbles, np.zeros(nibbles.size % 2, dtype=np.uint8))
    return (even[::2] | even[1::2] << 4).tobytes()


def squeezenet() -> tuple[HanLayer, ...]:
    """Return the 26 convolutions of SqueezeNet 1.0 in network order."""
    layers = [HanLayer("conv1", (96, 3, 7, 7))]
    inputs = 96
    for number, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64), start=2):
        expand = 4 * squeeze
        layers += [
            HanLayer(f"fire{number}.squeeze1x1", (squeeze, inputs, 1, 1)),
            HanLayer(f"fire{number}.expand1x1", (expand, squeeze, 1, 1)),
            HanLayer(f"fire{number}.expand3x3", (expand, squeeze, 3, 3)),
        ]
        inputs = 2 * expand
    return (*layers, HanLayer("conv10", (1000, inputs, 1, 1)))
