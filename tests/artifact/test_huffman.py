import heapq
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearweight.artifact.errors import CodeTableError
from clearweight.artifact.huffman import MAX_LENGTH, check_lengths, code_lengths, code_words, decode_table

histograms = st.lists(st.integers(0, 10**6), min_size=2, max_size=256).filter(
    lambda c: sum(n > 0 for n in c) > 1
)


def huffman_cost(counts: list[int]) -> int:
    heap = sorted(count for count in counts if count)
    cost = 0
    while len(heap) > 1:
        pair = heapq.heappop(heap) + heapq.heappop(heap)
        cost += pair
        heapq.heappush(heap, pair)
    return cost


def cost(counts: list[int], lengths: np.ndarray) -> int:
    return sum(count * int(length) for count, length in zip(counts, lengths, strict=True))


@given(histograms)
def test_lengths_form_a_complete_code_within_the_limit(counts):
    lengths = code_lengths(np.array(counts))

    check_lengths(lengths, "code")
    assert [length > 0 for length in lengths] == [count > 0 for count in counts]
    if max(counts) * 2 ** (MAX_LENGTH - 1) > 0 and int(lengths.max()) < MAX_LENGTH:
        assert cost(counts, lengths) == huffman_cost(counts)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=6))
def test_limited_lengths_are_the_best_of_all_that_satisfy_kraft(counts):
    limit = 3
    best = min(
        sum(n * length for n, length in zip(counts, lengths, strict=True))
        for lengths in product(range(1, limit + 1), repeat=len(counts))
        if sum(2.0**-length for length in lengths) <= 1
    )

    assert cost(counts, code_lengths(np.array(counts), limit)) == best


def test_a_limit_that_binds_costs_more_than_huffman_but_keeps_kraft():
    fibonacci = [1, 1]
    while len(fibonacci) < 20:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = code_lengths(np.array(fibonacci))

    assert int(lengths.max()) == MAX_LENGTH
    check_lengths(lengths, "code")
    assert huffman_cost(fibonacci) < cost(fibonacci, lengths) < 1.001 * huffman_cost(fibonacci)


def test_ties_give_the_shorter_code_to_the_lower_symbol():
    assert code_lengths(np.array([1, 1, 1])).tolist() == [1, 2, 2]


@pytest.mark.parametrize("counts", [[0, 0], [5], [0, 3, 0]])
def test_fewer_than_two_symbols_have_no_code(counts):
    with pytest.raises(CodeTableError):
        code_lengths(np.array(counts))


def test_more_symbols_than_the_limit_can_tell_apart_are_refused():
    with pytest.raises(CodeTableError):
        code_lengths(np.ones(5, dtype=int), 2)


@pytest.mark.parametrize(
    ("lengths", "word"),
    [
        ([1, 1, 1], "over"),
        ([2, 2], "under"),
        ([1], "at least 2"),
        ([0, 0], "at least 2"),
        ([13, 1], "13 bits"),
    ],
)
def test_tables_that_are_no_complete_code_are_refused(lengths, word):
    with pytest.raises(CodeTableError, match=word):
        check_lengths(np.array(lengths, dtype=np.uint8), "code")


def test_words_are_those_of_spec_2_3():
    assert code_words(np.array([1, 2, 2], dtype=np.uint8)).tolist() == [0b0, 0b01, 0b11]
    # Deflate's own example (RFC 1951, section 3.2.2): A-H of lengths 3 3 3 3 3 2 4 4, first bit highest there.
    words = code_words(np.array([3, 3, 3, 3, 3, 2, 4, 4], dtype=np.uint8))
    expected = ["010", "011", "100", "101", "110", "00", "1110", "1111"]

    assert words.tolist() == [int(word[::-1], 2) for word in expected]


@given(histograms)
def test_no_word_begins_another_and_the_table_finds_each(counts):
    lengths = code_lengths(np.array(counts))
    words, table = code_words(lengths), decode_table(lengths)
    texts = [f"{int(w):0{int(n)}b}"[::-1] for w, n in zip(words, lengths, strict=True) if n]

    ordered = sorted(texts)
    assert not any(b.startswith(a) for a, b in pairwise(ordered))
    for symbol in np.flatnonzero(lengths):
        for noise in (0, (1 << table.bits) - 1):
            entry = (int(words[symbol]) | noise << int(lengths[symbol])) & ((1 << table.bits) - 1)
            assert (table.symbols[entry], table.lengths[entry]) == (symbol, lengths[symbol])
