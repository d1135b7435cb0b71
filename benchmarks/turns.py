"""Timing several contenders on the same inputs in turn, so that a disturbed machine disturbs them alike."""

import time
from collections.abc import Callable
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

Function = Callable[[NDArray[np.float32]], object]
Clock = Callable[[], float]

_LEAST_ROUNDS, _MOST_ROUNDS = 5, 150
_TURN_SECONDS = 0.01


def take_turns(
    contenders: dict[str, Function],
    inputs: NDArray[np.float32],
    *,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> dict[str, NDArray[np.float64]]:
    """Time contenders in turn; seconds per call, one entry per round.

    A turn is short, but at least one call; there are as many rounds as fit, between 5 and 150.

    Parameters
    ----------
    inputs : (count, ...), taken in turn by each contender by itself
    seconds : what all rounds may take together
    clock : what is read before and after; the process's own time leaves out what else the machine does
    """
    turns = {key: _over(function, inputs) for key, function in contenders.items()}
    counts, a_round = {}, 0.0
    for key, turn in turns.items():
        turn()  # the first call plans memory
        one = _seconds(turn, 1, clock)
        one = _seconds(turn, 3, clock) if one < _TURN_SECONDS else one
        counts[key] = max(1, int(_TURN_SECONDS / one))
        a_round += counts[key] * one
    rounds = min(max(int(seconds / a_round), _LEAST_ROUNDS), _MOST_ROUNDS)
    found: dict[str, list[float]] = {key: [] for key in turns}
    for _ in range(rounds):
        for key, turn in turns.items():
            found[key].append(_seconds(turn, counts[key], clock))
    return {key: np.array(times) for key, times in found.items()}


def _over(function: Function, inputs: NDArray[np.float32]) -> Callable[[], object]:
    """Give a function the inputs in turn."""
    following = cycle(inputs)
    return lambda: function(next(following))


def _seconds(turn: Callable[[], object], count: int, clock: Clock) -> float:
    start = clock()
    for _ in range(count):
        turn()
    return (clock() - start) / count
