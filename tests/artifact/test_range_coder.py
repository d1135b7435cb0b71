import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearweight.artifact.byte_cursor import ByteCursor
from clearweight.artifact.errors import CodeStreamError, TruncatedError
from clearweight.artifact.range_coder import LEAST_STATE, WHOLE, AdaptiveBits, BitDecoder, encode_bits


def cursor(data: bytes) -> ByteCursor:
    return ByteCursor(io.BytesIO(data), 0, len(data), "Tensor 'w'")


def steps(seed: int, count: int, lanes: int, one: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    sizes = [min(lanes, count - start) for start in range(0, count, lanes)]
    return (
        [random.random(size) < one / WHOLE for size in sizes],
        [np.full(size, one, dtype=np.uint16) for size in sizes],
    )


def slow_decode(data: bytes, ones: list[np.ndarray], lanes: int) -> list[list[bool]]:
    """Duda's range variant, one lane after the other with Python's own integers."""
    words = int.from_bytes(data[:1], "little")
    assert words < 128
    states = [int.from_bytes(data[1 + 4 * k : 5 + 4 * k], "little") for k in range(lanes)]
    tail = data[1 + 4 * lanes :]
    queue = [int.from_bytes(tail[2 * k : 2 * k + 2], "little") for k in range(words)]
    found = []
    for one in ones:
        bits = []
        for lane, share in enumerate(int(p) for p in one):
            whole, place = divmod(states[lane], WHOLE)
            bits.append(place < share)
            states[lane] = share * whole + place if bits[-1] else (WHOLE - share) * whole + place - share
        for lane in range(len(one)):
            if states[lane] < LEAST_STATE:
                states[lane] = states[lane] * 65536 + queue.pop(0)
        found.append(bits)
    assert not queue
    assert states == [LEAST_STATE] * lanes
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from([1, 2, 8, 64]), st.integers(1, WHOLE - 1)
)
def test_bits_come_back_for_every_probability_and_lane_count(seed, count, lanes, one):
    bits, ones = steps(seed, count, lanes, one)
    decoder = BitDecoder(cursor(b"".join(encode_bits(bits, ones, lanes))), lanes)

    assert [decoder.step(p.astype(np.int64)).tolist() for p in ones] == [b.tolist() for b in bits]
    decoder.finish()


def test_a_decoder_in_plain_integers_reads_the_same_bits():
    bits, ones = steps(1, 700, 4, 900)

    assert slow_decode(b"".join(encode_bits(bits, ones, 4)), ones, 4) == [b.tolist() for b in bits]


@pytest.mark.parametrize("one", [1, 40, 1000, WHOLE // 2, WHOLE - 3])
def test_the_size_is_the_information_and_two_bytes_a_lane(one):
    bits, ones = steps(3, 60_000, 16, one)
    chosen = np.concatenate(bits)
    ideal = -float(np.log2(np.where(chosen, one / WHOLE, 1 - one / WHOLE)).sum()) / 8

    size = sum(map(len, encode_bits(bits, ones, 16)))

    assert ideal <= size + 1 <= 1.005 * ideal + 4 * 16 + 8


def test_a_cut_or_changed_stream_is_named():
    bits, ones = steps(5, 3000, 8, 1500)
    data = b"".join(encode_bits(bits, ones, 8))

    def decode(changed: bytes) -> None:
        decoder = BitDecoder(cursor(changed), 8)
        for one in ones:
            decoder.step(one.astype(np.int64))
        decoder.finish()

    for cut in range(0, len(data), 7):
        with pytest.raises(TruncatedError):
            decode(data[:cut])
    for place in range(2, len(data), 11):
        changed = bytearray(data)
        changed[place] ^= 0x55
        with pytest.raises(CodeStreamError):
            decode(bytes(changed))


def test_probabilities_are_krichevsky_and_trofimovs():
    model = AdaptiveBits(3)
    assert model.ones(np.array([0, 1, 2])).tolist() == [WHOLE // 2] * 3

    model.learn(np.array([1, 1, 1, 2]), np.array([True, True, False, False]))

    assert model.ones(np.array([0, 1, 2])).tolist() == [
        WHOLE // 2,
        int(WHOLE * (2 + 0.5) / (3 + 1)),
        int(WHOLE * 0.5 / 2),
    ]


def test_no_probability_is_ever_zero_or_one():
    model = AdaptiveBits(1)
    for _ in range(200):
        model.learn(np.zeros(1000, dtype=np.int64), np.ones(1000, dtype=bool))
    assert model.ones(np.array([0])).tolist() == [WHOLE - 1]
