"""Choose how to lay a tensor out: every form is measured, the smallest is written (SPEC.md section 3.6).

Where positions and values are stored apart their sizes add, so each is minimised by itself: positions
over walks, gap widths and masks, values over raw, codebook and Huffman.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.alphabet import Alphabet, alphabet_of
from clearweight.artifact.bit_field import field_bytes, field_width
from clearweight.artifact.bit_pattern import bit_pattern, narrowest_float
from clearweight.artifact.coded import CodedTensor
from clearweight.artifact.gap import WIDTHS, gap_histogram, symbol_histogram
from clearweight.artifact.record import Form, Support, Values
from clearweight.artifact.symbol_block import huffman_size, sized
from clearweight.artifact.walk import WALKS, distinct_walks, walked

HUFFMAN = (Support.GAPS_HUFFMAN, Support.MASK_HUFFMAN)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Candidate:
    """A form and the bytes its payload is predicted to take."""

    form: Form
    size: int


@dataclass(frozen=True, eq=False)
class Content:
    """What the choice looks at, gathered once per tensor."""

    tensor: CodedTensor
    mask: NDArray[np.bool_]  # True where the bits are not +0
    nonzero: int
    alphabet: Alphabet | None
    raw_item: np.dtype[Any]

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.tensor.values.size


def content_of(tensor: CodedTensor) -> Content:
    """Gather mask, alphabet and item type of a tensor."""
    flat = tensor.values.reshape(-1)
    mask = np.empty(flat.size, dtype=bool)
    for start in range(0, flat.size, _CHUNK):
        mask[start : start + _CHUNK] = bit_pattern(flat[start : start + _CHUNK]) != 0
    shaped = mask.reshape(tensor.values.shape)
    return Content(
        tensor, shaped, int(np.count_nonzero(mask)), alphabet_of(tensor), narrowest_float(tensor.values)
    )


def candidates(content: Content) -> list[Candidate]:
    """Measure every form a tensor can take, smallest first; ties go to the simpler form."""
    own = content.tensor.values.dtype.newbyteorder("=")
    if content.size == 0:
        return [Candidate(Form(Support.DENSE, Values.RAW, own), 0)]
    found = list(_values(content, content.size, content.alphabet))
    if 0 < content.nonzero < content.size:
        sparse = content.alphabet.without_zero() if content.alphabet else None
        values = list(_values(content, content.nonzero, sparse))
        found += [
            Candidate(
                Form(at.form.support, value.form.values, value.form.item, at.form.walk, at.form.gap_width),
                at.size + value.size,
            )
            for at in _positions(content)
            for value in values
        ]
    return sorted(
        found, key=lambda candidate: (candidate.size, candidate.form.support, candidate.form.values)
    )


def range_forms(content: Content, huffman: Form) -> list[Form]:
    """List the forms in range code that are worth writing out: along the tensor's own order, and with axis 0 last.

    Their sizes cannot be predicted from a histogram, because probabilities follow the places.

    Parameters
    ----------
    huffman : the smallest form without range code, whose value code stands in where there is no codebook
    """
    if content.size == 0:
        return []
    forms = []
    alphabet = content.alphabet
    if alphabet is not None and alphabet.entries.size > 1:
        forms.append(Form(Support.DENSE, Values.CODEBOOK_RANGE, narrowest_float(alphabet.entries)))
    if not 0 < content.nonzero < content.size:
        return forms
    sparse = alphabet.without_zero() if alphabet is not None else None
    codes = [(Values.RAW, content.raw_item)]
    if sparse is not None:
        item = narrowest_float(sparse.entries)
        codes = [(Values.CODEBOOK, item)] if sparse.entries.size == 1 else [(Values.CODEBOOK_RANGE, item)]
    if huffman.support != Support.DENSE and huffman.values != Values.RAW:
        codes.append((huffman.values, huffman.item))
    return forms + [
        Form(Support.MASK_RANGE, values, item, walk)
        for walk in _opposite_walks(content.tensor.values.shape)
        for values, item in dict.fromkeys(codes)
    ]


def _opposite_walks(shape: tuple[int, ...]) -> list[int]:
    rank = len(shape)
    last = (*range(1, rank), 0)
    return sorted({0, WALKS[rank].index(last)}) if rank > 1 and last in WALKS[rank] else [0]


def _values(content: Content, count: int, alphabet: Alphabet | None) -> Iterator[Candidate]:
    yield Candidate(Form(Support.DENSE, Values.RAW, content.raw_item), count * content.raw_item.itemsize)
    if alphabet is None:
        return
    item = narrowest_float(alphabet.entries)
    entries = alphabet.entries.size
    book = 1 + entries * item.itemsize
    width = field_width(entries - 1)
    yield Candidate(Form(Support.DENSE, Values.CODEBOOK, item), book + field_bytes(count, width))
    if entries > 1:
        yield Candidate(
            Form(Support.DENSE, Values.CODEBOOK_HUFFMAN, item), book + huffman_size(alphabet.counts)
        )


def _positions(content: Content) -> Iterator[Candidate]:
    own = content.tensor.values.dtype
    mask_bytes = field_bytes(content.size, 1)
    yield Candidate(Form(Support.MASK, Values.RAW, own), mask_bytes)
    for walk in distinct_walks(content.tensor.values.shape):
        mask = walked(content.mask, walk)
        yield Candidate(
            Form(Support.MASK_HUFFMAN, Values.RAW, own, walk), huffman_size(_mask_histogram(mask))
        )
        gaps, counts = gap_histogram(mask)
        for width in WIDTHS:
            histogram = symbol_histogram(gaps, counts, width)
            fillers = sized(int(histogram[0]))
            fields = fillers + field_bytes(int(histogram.sum()), width)
            yield Candidate(Form(Support.GAPS, Values.RAW, own, walk, width), fields)
            coded = fillers + huffman_size(histogram)
            yield Candidate(Form(Support.GAPS_HUFFMAN, Values.RAW, own, walk, width), coded)


def _mask_histogram(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    histogram = np.zeros(256, dtype=np.int64)
    for start in range(0, mask.size, _CHUNK):
        histogram += np.bincount(np.packbits(mask[start : start + _CHUNK], bitorder="little"), minlength=256)
    return histogram


def smallest(found: list[Candidate], supports: tuple[Support, ...], values: tuple[Values, ...]) -> Candidate:
    """Find the smallest candidate within some supports and value codes."""
    return next(c for c in found if c.form.support in supports and c.form.values in values)
