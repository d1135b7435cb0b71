import numpy as np
import pytest

from clearweight.service.drift.waiting_rows import WaitingRows


def part(*values, length=3):
    return {"x": np.array(values, np.float32)[:, None].repeat(length, 1)}


def values(rows):
    return rows["x"][:, 0].tolist()


def test_what_waits_is_taken_together_in_its_order_up_to_the_limit():
    waiting = WaitingRows(4)
    for one in (part(1), part(2, 3), part(4), part(5), part(6)):
        waiting.add(one)
    assert [values(waiting.take()) for _ in range(2)] == [[1, 2, 3, 4], [5, 6]]
    assert waiting.take() is None


def test_a_part_larger_than_a_batch_goes_alone_and_nothing_overtakes():
    waiting = WaitingRows(2)
    for one in (part(1), part(2, 3, 4), part(5)):
        waiting.add(one)
    assert [values(waiting.take()) for _ in range(3)] == [[1], [2, 3, 4], [5]]


def test_rows_of_another_shape_wait_for_a_batch_of_their_own():
    waiting = WaitingRows(8)
    for one in (part(1), part(2, length=5), part(3)):
        waiting.add(one)
    assert [values(waiting.take()) for _ in range(3)] == [[1], [2], [3]]


@pytest.mark.parametrize("taken", [False, True])
def test_a_part_can_be_taken_back_until_it_is_compared(taken):
    waiting = WaitingRows(8)
    first, second = part(1), part(1)  # equal, and two all the same
    waiting.add(first)
    waiting.add(second)
    if taken:
        waiting.take()
    assert waiting.withdraw(second) is not taken
    left = waiting.take()
    assert (left is None) if taken else (left is first)
