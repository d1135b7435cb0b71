"""The order of the queues, held against a plain list of everything that came."""

import random
from types import SimpleNamespace

import pytest

from clearweight.service.core.waiting_room import WaitingRoom


def ticket(name, model="tiny", key="same", rows=1, most_rows=100):
    job = SimpleNamespace(slot=SimpleNamespace(name=model), key=key, rows=rows, most_rows=most_rows)
    return SimpleNamespace(name=name, job=job)


def test_an_empty_room_counts_nobody():
    room = WaitingRoom(4)
    assert not room
    assert len(room) == room.waiting("tiny") == 0


def test_models_take_turns_whoever_has_more():
    room = WaitingRoom(1)
    for name in ("a1", "a2", "a3", "b1"):
        room.enter(ticket(name, model=name[0]))
    order = []
    while room:
        chosen, _ = room.next()
        room.take(chosen)
        order += [one.name for one in chosen]
    assert order == ["a1", "b1", "a2", "a3"]


def test_choosing_changes_nothing():
    room = WaitingRoom(2)
    for name in "abc":
        room.enter(ticket(name))
    assert [one.name for one in room.next()[0]] == [one.name for one in room.next()[0]] == ["a", "b"]
    assert room.waiting("tiny") == 3


@pytest.mark.parametrize(("rows", "full"), [(3, False), (4, True), (5, True)])
def test_a_run_is_full_when_no_row_fits_any_more(rows, full):
    room = WaitingRoom(4)
    room.enter(ticket("only", rows=rows))
    assert room.next()[1] is full


def test_who_left_before_its_turn_is_not_there():
    room = WaitingRoom(4)
    tickets = [ticket(name) for name in "abc"]
    for one in tickets:
        room.enter(one)
    room.leave(tickets[1])
    room.leave(tickets[1])  # twice is once
    assert room.next()[0] == [tickets[0], tickets[2]]
    assert room.empty() == [tickets[0], tickets[2]]
    room.leave(tickets[0])
    assert not room


def slowly(waiting, most):
    """The tickets of the next run, read off the rule: the oldest, then each of its key that still fits, in order."""
    chosen, rows = [], 0
    limit = min(most, waiting[0].job.most_rows)
    for one in waiting:
        fits = one.job.key == waiting[0].job.key and rows + one.job.rows <= limit
        if rows < limit and (not chosen or fits):
            chosen.append(one)
            rows += one.job.rows
    return chosen


def test_a_random_stream_of_one_model_leaves_in_the_order_of_the_rule():
    draw = random.Random(0)
    room, waiting = WaitingRoom(6), []
    for step in range(400):
        if draw.random() < 0.7:
            one = ticket(
                step, key=draw.choice("xy"), rows=draw.randint(1, 8), most_rows=draw.choice((2, 100))
            )
            room.enter(one)
            waiting.append(one)
        elif waiting:
            expected = slowly(waiting, 6)
            chosen, _ = room.next()
            room.take(chosen)
            assert chosen == expected
            waiting = [one for one in waiting if one not in chosen]
        assert len(room) == len(waiting)
