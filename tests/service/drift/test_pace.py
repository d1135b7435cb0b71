"""A share of a core, kept to by several threads together, also in the middle of long work."""

import time

import pytest

from clearweight.service.drift import ShadowWorker
from clearweight.service.drift.pace import Account, breathe


def work(seconds):
    """Keep a core busy for so much processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def long_work(pieces, ended):
    def job():
        for _ in range(pieces):
            work(0.003)
            breathe()
        ended.append(time.perf_counter())

    return job


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_long_work_rests_between_its_pieces(share):
    worker, ended = ShadowWorker(4, Account(share)), []
    began = time.perf_counter()
    worker.offer(long_work(10, ended))
    worker.drain()
    worker.close()

    assert ended[0] - began >= 0.9 * 10 * 0.003 / share


def test_threads_of_one_account_share_it():
    account, ended = Account(0.25), []
    workers = [ShadowWorker(4, account, name) for name in ("one", "two")]
    began = time.perf_counter()
    for worker in workers:
        worker.offer(long_work(10, ended))
    for worker in workers:
        worker.drain()
        worker.close()

    # 2 x 30 ms of work, each booked with three times as much rest for both.
    assert max(ended) - began >= 0.9 * 2 * 10 * 0.003 * 3


def test_small_jobs_add_up():
    worker, done = ShadowWorker(64, Account(0.1)), []
    began = time.perf_counter()
    for _ in range(20):
        worker.offer(lambda: (work(0.0005), done.append(time.perf_counter())))
    worker.drain()
    worker.close()

    assert done[-1] - began >= 0.7 * 20 * 0.0005 / 0.1


def test_waiting_is_booked_as_no_more_than_the_work_itself():
    worker, ended = ShadowWorker(4, Account(0.1)), []

    def job():
        for _ in range(4):
            work(0.003)
            time.sleep(0.2)  # as if the machine had slept
            breathe()
        ended.append(time.perf_counter())

    began = time.perf_counter()
    worker.offer(job)
    worker.drain()
    worker.close()

    # Booked as waiting, the first sleep alone would cost 1.8 s of rest.
    assert ended[0] - began < 4 * 0.2 + 4 * 2 * 0.003 * 9 + 0.6
