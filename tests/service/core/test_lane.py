"""The lane by itself: jobs are stand-ins whose runs are counted and held by gates."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from clearweight.service import (
    CallerGoneError,
    DeadlineExceededError,
    InvalidRequestError,
    QueueFullError,
    UnavailableError,
)
from clearweight.service.core.lane import Lane, LaneOptions
from clearweight.service.core.observer import Observer


class Seen(Observer):
    def __init__(self):
        self.reasons, self.waits = [], 0

    def rejected(self, reason):
        self.reasons.append(reason)

    def queued(self, verb, seconds):
        self.waits += 1


@dataclass(eq=False)
class Work:
    """What a lane sees of a job."""

    name: str = ""
    model: str = "tiny"
    key: object = "same"
    rows: int = 1
    most_rows: int = 100
    seconds: float = 1.0
    fails: bool = False

    @property
    def slot(self):
        return SimpleNamespace(name=self.model)


@dataclass
class Bench:
    """A lane whose runs wait for a gate, and a record of them."""

    options: LaneOptions = field(default_factory=LaneOptions)
    opened: bool = True

    def __post_init__(self):
        self.seen, self.runs, self.threads = Seen(), [], []
        self.gate, self.began, self.halted = threading.Event(), threading.Semaphore(0), []
        if self.opened:
            self.gate.set()
        self.lane = Lane("predict", self.run, self.options, self.seen)

    def run(self, jobs, halt):
        self.runs.append([job.name for job in jobs])
        self.threads.append(threading.get_ident())
        self.began.release()
        until = time.monotonic() + 30
        while not self.gate.wait(0.002) and time.monotonic() < until:
            if halt is not None and halt.called:
                self.halted.append([job.name for job in jobs])
                raise RuntimeError("terminated")
        if any(job.fails for job in jobs):
            raise InvalidRequestError("spoilt")
        return [f"{job.name}!" for job in jobs]

    async def start(self, *jobs, **settings):
        """Send jobs one after another without waiting for answers."""
        tasks = []
        for job in jobs:
            tasks.append(asyncio.create_task(self.lane.answer(job, **settings)))
            await asyncio.sleep(0)
        return tasks

    async def running(self):
        """Wait until a run has begun."""
        await asyncio.to_thread(self.began.acquire)

    async def idle(self):
        """Wait until no thread runs anything."""

        def wait():
            while not self.lane.crew.idle:
                time.sleep(0.002)

        await asyncio.to_thread(wait)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gate.set()
        self.lane.close()


def bench(*, opened=False, **options):
    return Bench(LaneOptions(**{"inline_seconds": 0.0, **options}), opened=opened)


def test_small_work_runs_where_it_stands_and_large_work_in_a_thread():
    with bench(opened=True, inline_seconds=0.5) as found:
        asyncio.run(found.lane.answer(Work(seconds=0.4)))
        asyncio.run(found.lane.answer(Work(seconds=0.6)))

    assert [thread == threading.get_ident() for thread in found.threads] == [True, False]
    # Both count: what did not wait is a wait of nothing.
    assert found.seen.waits == 2


def test_an_event_loop_that_is_behind_computes_nothing_and_counts_as_a_queue():
    now = time.monotonic()
    with bench(opened=True, inline_seconds=0.5, queue_seconds=60.0) as found:
        asyncio.run(found.lane.answer(Work(seconds=0.1), arrived=now + 60.0))
        asyncio.run(found.lane.answer(Work(seconds=0.1), arrived=now - 1.0))
        with pytest.raises(QueueFullError, match="nothing was computed"):
            found.lane.admit("tiny", now - 61.0)

    assert [thread == threading.get_ident() for thread in found.threads] == [True, False]
    assert found.seen.reasons == ["queue_timeout"]


def test_small_work_queues_behind_waiting_work():
    with bench(inline_seconds=0.5) as found:

        async def drive():
            tasks = await found.start(Work(), Work(seconds=0.0, key="other"))
            found.gate.set()
            await asyncio.gather(*tasks)

        asyncio.run(drive())
    assert threading.get_ident() not in found.threads


def test_what_arrives_during_a_run_shares_the_next_one_up_to_the_limit():
    names = "abcdefgh"
    with bench(max_batch=4) as found:

        async def drive():
            tasks = await found.start(Work("first"))
            await found.running()
            tasks += await found.start(*map(Work, names))
            found.gate.set()
            return await asyncio.gather(*tasks)

        answers = asyncio.run(drive())

    assert found.runs == [["first"], ["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    assert answers == ["first!", *(f"{name}!" for name in names)]


def test_only_equal_keys_of_one_model_share_a_run_and_models_take_turns():
    jobs = [
        Work("a1"),
        Work("a2", key="other"),
        Work("b1", model="second"),
        Work("a3"),
        Work("b2", model="second"),
    ]
    with bench() as found:

        async def drive():
            tasks = await found.start(Work("first"))
            await found.running()
            tasks += await found.start(*jobs)
            found.gate.set()
            await asyncio.gather(*tasks)

        asyncio.run(drive())
    assert found.runs == [["first"], ["a1", "a3"], ["b1", "b2"], ["a2"]]


def test_rows_count_and_a_kind_may_allow_fewer():
    with bench(max_batch=10) as found:

        async def drive():
            tasks = await found.start(Work("first"))
            await found.running()
            tasks += await found.start(
                Work("six", rows=6), Work("five", rows=5), Work("four", rows=4), Work("huge", rows=50)
            )
            tasks += await found.start(*(Work(name, key="steep", most_rows=2) for name in "xyz"))
            found.gate.set()
            await asyncio.gather(*tasks)

        asyncio.run(drive())
    assert found.runs == [["first"], ["six", "four"], ["five"], ["huge"], ["x", "y"], ["z"]]


def test_a_batch_of_one_joins_none():
    with bench(max_batch=1) as found:

        async def drive():
            tasks = await found.start(*map(Work, "abc"))
            found.gate.set()
            await asyncio.gather(*tasks)

        asyncio.run(drive())
    assert found.runs == [["a"], ["b"], ["c"]]


def test_a_delay_waits_for_company_and_no_longer():
    with bench(opened=True, max_delay=0.5, max_batch=2, inline_seconds=9) as found:

        async def drive():
            started = time.monotonic()
            await asyncio.gather(*await found.start(Work("a"), Work("b")))
            full = time.monotonic() - started
            await found.lane.answer(Work("lone"))
            return full, time.monotonic() - started - full

        full, lone = asyncio.run(drive())
    assert found.runs == [["a", "b"], ["lone"]]
    assert full < 0.4
    assert lone >= 0.49


def test_a_full_queue_refuses_at_once_says_when_to_come_back_and_accepts_again():
    with bench(queue=2, max_batch=1) as found:

        async def drive():
            tasks = await found.start(Work())
            await found.running()
            tasks += await found.start(Work(), Work())
            assert found.lane.depth == 2
            for refused in (
                found.lane.answer(Work()),
                asyncio.to_thread(found.lane.admit, "tiny", time.monotonic()),
            ):
                with pytest.raises(QueueFullError, match="2 requests wait"):
                    await refused
            found.lane.admit("another", time.monotonic())
            found.gate.set()
            await asyncio.gather(*tasks)
            return await found.lane.answer(Work("again"))

        assert asyncio.run(drive()) == "again!"
    assert found.seen.reasons == ["queue_full"] * 2
    assert found.seen.waits == 4


def test_the_time_to_come_back_is_what_the_queue_takes_at_the_measured_rate():
    with bench(queue=4, max_batch=1) as found:

        async def drive():
            (first,) = await found.start(Work())
            await found.running()
            await asyncio.sleep(0.2)
            found.gate.set()
            await first
            found.gate.clear()
            tasks = await found.start(*(Work() for _ in range(5)))
            await found.running()
            with pytest.raises(QueueFullError) as refused:
                await found.lane.answer(Work())
            found.gate.set()
            await asyncio.gather(*tasks)
            return refused.value.retry_after

        assert 0.7 < asyncio.run(drive()) < 3.0


def test_a_lane_is_crowded_by_what_waits_and_what_is_about_to_come_in_but_never_while_idle():
    with bench(queue=2, workers=1, max_batch=1) as found:

        async def drive():
            assert not found.lane.crowded("tiny", 100)
            tasks = await found.start(Work())
            await found.running()
            assert not found.lane.crowded("tiny", 100)
            tasks += await found.start(Work())
            assert not found.lane.crowded("tiny", 0)
            assert found.lane.crowded("tiny", 1)
            assert not found.lane.crowded("another", 1)
            found.gate.set()
            await asyncio.gather(*tasks)

        asyncio.run(drive())


def test_no_room_to_wait_still_lets_a_free_thread_work():
    with bench(opened=True, queue=0) as found:
        assert asyncio.run(found.lane.answer(Work("only"))) == "only!"


def test_waiting_has_a_limit_and_what_it_ends_is_never_computed():
    with bench(queue_seconds=0.05) as found:

        async def drive():
            (first,) = await found.start(Work("first"))
            await found.running()
            (second,) = await found.start(Work("second"))
            with pytest.raises(QueueFullError, match="nothing was computed"):
                await second
            assert found.lane.depth == 0
            assert not first.done()  # the limit is on waiting, not on running
            found.gate.set()
            return await first

        assert asyncio.run(drive()) == "first!"
    assert found.runs == [["first"]]
    assert found.seen.reasons == ["queue_timeout"]


def test_a_deadline_ends_the_wait_and_the_run():
    with bench() as found:

        async def drive():
            (first,) = await found.start(Work("first"), deadline=time.monotonic() + 0.1)
            await found.running()
            (second,) = await found.start(Work("second"), deadline=time.monotonic() + 0.02)
            with pytest.raises(DeadlineExceededError, match="before the run"):
                await second
            with pytest.raises(DeadlineExceededError, match="during the run"):
                await first
            await found.idle()
            found.gate.set()
            return await found.lane.answer(Work("third"))

        assert asyncio.run(drive()) == "third!"
    assert found.runs == [["first"], ["third"]]
    assert found.halted == [["first"]]
    assert found.seen.reasons == ["deadline"] * 2


@pytest.mark.parametrize("how", ["cancel", "gone"])
def test_a_caller_that_leaves_is_not_computed_for_and_frees_the_thread(how):
    with bench() as found:

        async def drive():
            left = asyncio.Event()
            tasks = await found.start(Work("runs"), gone=left.wait)
            await found.running()
            tasks += await found.start(Work("waits"), gone=left.wait)
            if how == "cancel":
                for task in tasks:
                    task.cancel()
            left.set()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await found.idle()
            found.gate.set()
            await found.lane.answer(Work("next"))
            return {type(end) for end in ends}

        expected = asyncio.CancelledError if how == "cancel" else CallerGoneError
        assert asyncio.run(drive()) == {expected}
    assert found.runs == [["runs"], ["next"]]
    assert found.halted == [["runs"]]
    assert found.seen.reasons == ["cancelled"] * 2


def test_a_run_goes_on_while_one_of_its_callers_stays():
    with bench() as found:

        async def drive():
            tasks = await found.start(Work("first"))
            await found.running()
            tasks += await found.start(Work("stays"), Work("leaves"))
            found.gate.set()
            await tasks[0]
            found.gate.clear()
            await found.running()
            tasks[2].cancel()
            await asyncio.sleep(0.02)
            found.gate.set()
            return await tasks[1]

        assert asyncio.run(drive()) == "stays!"
    assert found.runs[-1] == ["stays", "leaves"]
    assert found.halted == []


def test_one_that_fails_spoils_its_own_answer_only():
    with bench() as found:

        async def drive():
            tasks = await found.start(Work("first"))
            await found.running()
            tasks += await found.start(Work("good"), Work("bad", fails=True), Work("fine"))
            found.gate.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        first, good, bad, fine = asyncio.run(drive())
    assert (first, good, fine) == ("first!", "good!", "fine!")
    assert isinstance(bad, InvalidRequestError)


def test_closing_answers_who_waits_and_ends_what_runs():
    found = bench()

    async def drive():
        tasks = await found.start(Work("runs"))
        await found.running()
        tasks += await found.start(Work("waits"))
        threading.Timer(0.05, found.gate.set).start()
        await asyncio.to_thread(found.lane.close)
        with pytest.raises(UnavailableError):
            await found.lane.answer(Work())
        return await asyncio.gather(*tasks, return_exceptions=True)

    runs, waits = asyncio.run(drive())
    assert runs == "runs!"
    assert isinstance(waits, UnavailableError)
    assert found.runs == [["runs"]]
