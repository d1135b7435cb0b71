import asyncio
import threading

import pytest

from clearweight.service import QueueFullError
from clearweight.service.core.lane import Lane
from clearweight.service.core.observer import Observer


class Seen(Observer):
    def __init__(self):
        self.reasons, self.waits = [], 0

    def rejected(self, reason):
        self.reasons.append(reason)

    def queued(self, verb, seconds):
        self.waits += 1


def lane(observer=None, **settings):
    return Lane(
        "predict",
        **({"workers": 1, "capacity": 2, "inline_seconds": 0.0} | settings),
        observer=observer or Seen(),
    )


def test_small_work_runs_where_it_stands():
    small = lane(inline_seconds=1.0)

    assert asyncio.run(small.run(0.5, threading.get_ident)) == threading.get_ident()
    small.close()


def test_large_work_runs_in_a_thread():
    large = lane(inline_seconds=0.1)

    assert asyncio.run(large.run(0.5, threading.get_ident)) != threading.get_ident()
    large.close()


def test_a_full_queue_refuses_at_once_and_accepts_again_when_it_empties():
    seen, gate = Seen(), threading.Event()
    tight = lane(seen)

    async def fill():
        waiting = [asyncio.create_task(tight.run(1.0, gate.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        assert tight.depth == 2
        with pytest.raises(QueueFullError, match="2 requests wait"):
            await tight.run(1.0, gate.wait)
        gate.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        await asyncio.sleep(0.05)
        return await tight.run(1.0, lambda: "again")

    assert asyncio.run(fill()) == "again"
    assert seen.reasons == ["queue_full"]
    assert seen.waits == 4
    tight.close()


def test_small_work_queues_behind_waiting_work():
    gate, mixed = threading.Event(), lane(inline_seconds=1.0)

    async def run():
        first = asyncio.create_task(mixed.run(2.0, gate.wait))
        await asyncio.sleep(0)
        second = asyncio.create_task(mixed.run(0.0, threading.get_ident))
        await asyncio.sleep(0)
        gate.set()
        await first
        return await second

    assert asyncio.run(run()) != threading.get_ident()
    mixed.close()


def test_an_error_in_the_thread_reaches_the_caller():
    failing = lane()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(failing.run(1.0, lambda: 1 / 0))
    failing.close()
