import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearweight.artifact.byte_cursor import ByteCursor
from clearweight.artifact.errors import CodeStreamError, TensorFieldError
from clearweight.artifact.range_block import (
    best_split,
    decode_mask,
    decode_symbols,
    encode_mask,
    encode_symbols,
    lane_count,
)


def cursor(data: bytes) -> ByteCursor:
    return ByteCursor(io.BytesIO(data), 0, len(data), "Tensor 'w'")


def entropy(counts: np.ndarray) -> float:
    used = counts[counts > 0]
    return float(-(used * np.log2(used / used.sum())).sum()) / 8


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 60), st.sampled_from([0.0, 0.02, 0.3, 1.0])
)
def test_masks_come_back_with_the_same_buckets(seed, rows, row, density):
    mask = np.random.default_rng(seed).random(rows * row) < density
    parts, buckets = encode_mask(mask, row)
    whole = cursor(b"".join(parts))
    back, again = decode_mask(whole, mask.size, row)

    assert (back == mask).all()
    assert (again == buckets).all()
    assert buckets.size == np.count_nonzero(mask)
    assert whole.remaining == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 600), st.integers(1, 256), st.booleans())
def test_symbols_come_back_with_and_without_a_split(seed, count, alphabet, split):
    random = np.random.default_rng(seed)
    symbols = random.integers(0, alphabet, size=count).astype(np.uint8)
    buckets = random.integers(0, 10, size=count).astype(np.uint8) if split else None
    data = b"".join(encode_symbols(symbols, alphabet, buckets, 5 if split else 0))

    assert (decode_symbols(cursor(data), count, alphabet, buckets) == symbols).all()


def test_a_mask_with_dead_columns_takes_less_than_its_positions_would():
    random = np.random.default_rng(0)
    mask = (random.random((200, 300)) < random.beta(0.1, 0.8, size=300)).reshape(-1)
    independent = entropy(np.bincount(mask))

    assert sum(map(len, encode_mask(mask, 300)[0])) < 0.75 * independent


def test_a_mask_without_structure_takes_its_entropy_and_little_more():
    mask = np.random.default_rng(0).random(60_000) < 0.1

    assert sum(map(len, encode_mask(mask, 300)[0])) < 1.015 * entropy(np.bincount(mask)) + 2 * lane_count(
        60_000, 7
    )


def test_symbols_take_their_entropy_and_little_more():
    symbols = np.random.default_rng(0).geometric(0.2, size=40_000).clip(max=31).astype(np.uint8)
    size = sum(map(len, encode_symbols(symbols, 32)))

    assert (
        entropy(np.bincount(symbols))
        < size
        < 1.01 * entropy(np.bincount(symbols)) + 4 * lane_count(40_000, 6)
    )


def test_a_split_pays_where_busy_places_hold_other_values():
    random = np.random.default_rng(0)
    buckets = random.integers(0, 19, size=8000).astype(np.uint8)
    symbols = np.where(buckets > 9, random.integers(0, 4, 8000), random.integers(12, 16, 8000)).astype(
        np.uint8
    )
    size = {
        split: sum(map(len, encode_symbols(symbols, 16, buckets, split)))
        for split in (0, best_split(buckets))
    }

    assert size[best_split(buckets)] < 0.75 * size[0]


def test_steps_grow_with_the_third_root_only():
    for count in (1, 2, 100, 5000, 10**6, 10**9, 2**40):
        assert count / lane_count(count, 7) <= 128 * max(1.0, 4 * count ** (1 / 3))


@pytest.mark.parametrize(("buckets", "split"), [(None, 1), (np.zeros(4, dtype=np.uint8), 19)])
def test_a_split_that_cannot_be_is_refused(buckets, split):
    data = b"".join(encode_symbols(np.arange(4, dtype=np.uint8), 4))
    with pytest.raises(TensorFieldError, match="splits its symbols"):
        decode_symbols(cursor(bytes([split]) + data[1:]), 4, 4, buckets)


def test_a_mask_of_another_shape_does_not_end_where_it_should():
    mask = np.random.default_rng(2).random(4000) < 0.2
    data = b"".join(encode_mask(mask, 40)[0])
    with pytest.raises(CodeStreamError):
        decode_mask(cursor(data), 4000, 80)
