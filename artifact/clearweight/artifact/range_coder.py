"""Binary range coding by asymmetric numeral systems, many lanes side by side (SPEC.md section 2.7).

A lane is one number, its state; coding a bit of probability f / 2^12 multiplies the state by about 2^12 / f. Lanes take
turns: in each step every lane codes one bit, so that numpy handles a step at once, and all lanes share one sequence of
words. The encoder runs backwards, so what it makes last the decoder reads first.

References
----------
Duda, Asymmetric numeral systems, arXiv 1311.2540, 2013, section 3 (range variant).
Giesen, Interleaved entropy coders, arXiv 1402.3392, 2014 (several states on one stream).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.byte_cursor import ByteCursor, varint_bytes
from clearweight.artifact.errors import CodeStreamError

PRECISION = 12
WHOLE = 1 << PRECISION
WORD = 16  # bits that a state gives up or takes at once
LEAST_STATE = 1 << 16  # states stay in [2^16, 2^32)
_STATE_BYTES = 4


def encode_bits(
    bits: Sequence[NDArray[np.bool_]], ones: Sequence[NDArray[np.uint16]], lanes: int
) -> list[bytes]:
    """Code the bits of all steps.

    Parameters
    ----------
    bits, ones : one array per step, of at most ``lanes`` entries
        The bits, lane 0 first, and the probability of a one in units of 2^-12, 1 to 2^12 - 1.

    Returns
    -------
    The parts of the stream: number of words, states, words.
    """
    state = np.full(lanes, LEAST_STATE, dtype=np.int64)
    written: list[NDArray[np.int64]] = []
    for bit, short in zip(reversed(bits), reversed(ones), strict=True):
        one = short.astype(np.int64)
        share = np.where(bit, one, WHOLE - one)
        own = state[: bit.size]
        full = own >= share << (2 * WORD - PRECISION)
        if full.any():
            written.append(own[full] & (1 << WORD) - 1)
            own = np.where(full, own >> WORD, own)
        whole, rest = np.divmod(own, share)
        state[: bit.size] = (whole << PRECISION) + rest + np.where(bit, 0, one)
    words = np.concatenate([np.zeros(0, dtype=np.int64), *reversed(written)])
    return [varint_bytes(words.size), state.astype("<u4").tobytes(), words.astype("<u2").tobytes()]


class BitDecoder:
    """Read back what ``encode_bits`` wrote, step by step.

    Parameters
    ----------
    cursor : moved behind the stream at once; nothing is allocated beyond the bytes that are there

    Raises
    ------
    TruncatedError
        The stream reaches beyond its part.
    CodeStreamError
        A state that no encoder leaves.
    """

    def __init__(self, cursor: ByteCursor, lanes: int) -> None:
        self._what = cursor.what
        count = cursor.varint()
        states = cursor.take(lanes * _STATE_BYTES)
        self._words = np.frombuffer(cursor.take(2 * count), dtype="<u2").astype(np.int64)
        self._state = np.frombuffer(states, dtype="<u4").astype(np.int64)
        self._at = 0
        if int(self._state.min()) < LEAST_STATE:
            raise CodeStreamError(f"{self._what} has a coder state below {LEAST_STATE}.")

    def step(self, one: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Decode one bit in each of the first ``one.size`` lanes, ``one`` being the probability of a one.

        Raises
        ------
        CodeStreamError
            The words are used up.
        """
        own = self._state[: one.size]
        place = own & WHOLE - 1
        bit: NDArray[np.bool_] = place < one
        own = np.where(bit, one, WHOLE - one) * (own >> PRECISION) + place
        own -= np.where(bit, 0, one)
        empty = np.flatnonzero(own < LEAST_STATE)
        if empty.size:
            words = self._words[self._at : self._at + empty.size]
            if words.size < empty.size:
                raise CodeStreamError(f"{self._what} ends inside its range code.")
            own[empty] = own[empty] << WORD | words
            self._at += empty.size
        self._state[: one.size] = own
        return bit

    def finish(self) -> None:
        """Demand that every word was read and every lane is back where its encoder began.

        Raises
        ------
        CodeStreamError
            Otherwise: the code was changed.
        """
        if self._at != self._words.size or (self._state != LEAST_STATE).any():
            raise CodeStreamError(f"{self._what} does not end where its range code should.")


class AdaptiveBits:
    """Probabilities that both sides learn alike: in every context, how often a one was seen.

    The estimate is (ones + 1/2) / (seen + 1) in whole units of 2^-12 (Krichevsky and Trofimov, 1981); it is renewed
    after each step, for all lanes at once.
    """

    def __init__(self, contexts: int) -> None:
        self._counts = np.ones(
            2 * contexts, dtype=np.int64
        )  # doubled, half a sighting of each bit to begin with
        self._one = np.full(contexts, WHOLE // 2, dtype=np.int64)

    def ones(self, context: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the probability of a one in each context, in units of 2^-12."""
        return self._one[context]

    def learn(self, context: NDArray[np.int64], bit: NDArray[np.bool_]) -> None:
        """Count the bits of one step."""
        self._counts += 2 * np.bincount(2 * context + bit, minlength=self._counts.size)
        zeros, ones = self._counts[::2], self._counts[1::2]
        self._one = np.clip((ones << PRECISION) // (zeros + ones), 1, WHOLE - 1)
