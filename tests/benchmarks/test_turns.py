"""Timing in turns: every contender as often as the others, on the inputs in order."""

import time

import numpy as np
import pytest

from benchmarks.turns import take_turns


def test_contenders_alternate_and_see_the_inputs_in_order():
    seen = []
    inputs = np.arange(3, dtype=np.float32)[:, None]

    def contender(name):
        def call(x):
            seen.append((name, float(x[0])))
            time.sleep(0.02)

        return call

    found = take_turns({"a": contender("a"), "b": contender("b")}, inputs, seconds=0.0)

    assert {key: len(times) for key, times in found.items()} == {"a": 5, "b": 5}
    assert [name for name, _ in seen[-10:]] == ["a", "b"] * 5
    own = [x for name, x in seen if name == "a"]
    assert own == [float(i % 3) for i in range(len(own))]


def test_times_are_those_of_one_call():
    found = take_turns({"slow": lambda _x: time.sleep(0.02)}, np.zeros((1, 1), np.float32), seconds=0.5)

    assert np.median(found["slow"]) == pytest.approx(0.02, rel=0.5)
    assert len(found["slow"]) > 5
