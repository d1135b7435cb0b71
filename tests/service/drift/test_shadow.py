import threading
import time

import numpy as np
import pytest

from clearweight.artifact import SCORES
from clearweight.service.drift import ShadowWorker, compare
from clearweight.service.drift.pace import Account
from tests.service import artifacts


def explainer(net):
    def explain(feed, target):
        x = feed["input"]
        logits = net.logits(x)
        chosen = np.where(target < 0, logits.argmax(axis=1), target)
        return net.explain(x, chosen), logits

    return explain


def test_both_models_explain_the_references_class():
    reference = artifacts.network()
    compressed = artifacts.pruned(reference, 0.4)
    x = artifacts.inputs(30)
    c = reference.logits(x).argmax(axis=1)

    found = compare(explainer(reference), explainer(compressed), {"input": x})

    assert set(found.scores) == set(SCORES)
    a, b = reference.explain(x, c).reshape(30, -1), compressed.explain(x, c).reshape(30, -1)
    slow = [
        1 - p @ q / np.sqrt((p @ p) * (q @ q)) for p, q in zip(a.astype(float), b.astype(float), strict=True)
    ]
    assert np.allclose(found.scores["cosine"], slow, atol=1e-6)
    assert np.array_equal(found.disagreement, compressed.logits(x).argmax(axis=1) != c)
    assert found.disagreement.any()
    assert np.array_equal(found.classes, c)


def test_a_full_queue_drops_at_once():
    gate, worker = threading.Event(), ShadowWorker(2, Account(1.0))
    worker.offer(gate.wait)
    while not worker._jobs.empty():
        time.sleep(0.001)

    started = time.perf_counter()
    assert not worker.full
    taken = [worker.offer(gate.wait) for _ in range(5)]

    assert worker.full
    assert taken == [True, True, False, False, False]
    assert time.perf_counter() - started < 5.0
    gate.set()
    worker.drain()
    worker.close()


def test_a_failing_comparison_does_not_end_the_worker(caplog):
    worker, done = ShadowWorker(4, Account(1.0)), threading.Event()
    worker.offer(lambda: 1 / 0)
    worker.offer(done.set)

    assert done.wait(30)
    worker.close()
    assert "clearweight-shadow thread failed" in caplog.text


def work(seconds):
    """Keep a core busy for so much processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_worker_keeps_to_its_share_of_a_core(share):
    worker, runs = ShadowWorker(64, Account(share)), []
    for _ in range(4):
        worker.offer(lambda: (work(0.02), runs.append(time.perf_counter())))
    started = time.perf_counter()
    worker.drain()
    worker.close()

    # Three pauses lie between four runs.
    assert runs[-1] - started >= 0.9 * 0.02 * (1 + 3 / share)
