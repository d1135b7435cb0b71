import numpy as np

from clearweight.artifact import CodedTensor
from clearweight.artifact.alphabet import alphabet_of
from tests.artifact.samples import coded, same_bits


def restored(alphabet):
    return alphabet.entries[alphabet.rename[alphabet.symbols]]


def test_the_most_frequent_value_comes_first_ties_by_bits():
    book = np.array([3.0, 1.0, 2.0, 9.0], dtype=np.float32)
    indices = np.array([0, 1, 1, 2], dtype=np.uint8)
    alphabet = alphabet_of(CodedTensor("w", book[indices], book, indices))

    assert alphabet.entries.tolist() == [1.0, 2.0, 3.0]  # 9.0 does not occur
    assert alphabet.counts.tolist() == [2, 1, 1]
    assert restored(alphabet).tolist() == [3.0, 1.0, 1.0, 2.0]


def test_repeated_codebook_entries_become_one():
    book = np.array([0.0, 5.0, 5.0], dtype=np.float32)
    indices = np.array([1, 2, 0, 2], dtype=np.uint8)
    alphabet = alphabet_of(CodedTensor("w", book[indices], book, indices))

    assert alphabet.entries.tolist() == [5.0, 0.0]
    assert alphabet.counts.tolist() == [3, 1]


def test_few_distinct_values_make_an_alphabet_and_many_do_not():
    few = np.tile(np.arange(256, dtype=np.float64), 20)
    assert alphabet_of(CodedTensor("w", few)).entries.size == 256
    assert alphabet_of(CodedTensor("w", np.arange(257, dtype=np.float64))) is None
    late = np.concatenate([np.zeros(3000), np.arange(300)])
    assert alphabet_of(CodedTensor("w", late)) is None


def test_minus_zero_and_nan_are_values_of_their_own():
    values = np.array([0.0, -0.0, np.nan, -0.0], dtype=np.float32)
    alphabet = alphabet_of(CodedTensor("w", values))

    assert same_bits(restored(alphabet), values)
    assert alphabet.without_zero().entries.size == 2


def test_dropping_zero_keeps_the_other_values():
    tensor = coded("w", (30, 30), 0.3)
    alphabet = alphabet_of(tensor).without_zero()
    kept = tensor.values != 0

    assert np.array_equal(restored(alphabet)[kept], tensor.values[kept])
    assert int(alphabet.counts.sum()) == int(kept.sum())


def test_an_alphabet_without_zero_stays_as_it_is():
    alphabet = alphabet_of(CodedTensor("w", np.array([1.0, 2.0])))

    assert alphabet.without_zero() is alphabet
