"""Tallies held against prometheus_client's own histogram of the same observations."""

import threading

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from clearweight.service.tally import MANY, Tallies

BOUNDS = (0.001, 0.01, 0.5, 1.0)


def both():
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tallies = Tallies("seconds", "How long.", BOUNDS, ("verb",), ours)
    histogram = Histogram("seconds", "How long.", ("verb",), registry=theirs, buckets=BOUNDS)
    return tallies, histogram, ours, theirs


def told(registry):
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


@pytest.mark.parametrize("count", [0, 1, 7, MANY, 3 * MANY + 5])
def test_they_tell_what_prometheus_own_histogram_tells(count):
    tallies, histogram, ours, theirs = both()
    # Multiples of 1/1024 add up exactly in any order, and some lie on the bounds 0.5 and 1.
    drawn = np.random.default_rng(count).integers(0, 2048, size=count) / 1024
    for verb in ("predict", "explain"):
        tally, child = tallies.of(verb), histogram.labels(verb)
        for value in drawn.tolist():
            tally.observe(value)
            child.observe(value)
    assert told(ours) == told(theirs)
    assert told(ours) == told(theirs)  # reading takes nothing away


def test_the_same_labels_are_the_same_tally():
    tallies = both()[0]
    assert tallies.of("predict") is tallies.of("predict")
    assert tallies.of("predict") is not tallies.of("explain")


def test_nothing_is_lost_between_threads_and_readers():
    tallies = both()[0]
    tally, each, done = tallies.of("predict"), 20_000, threading.Event()

    def observe():
        for _ in range(each):
            tally.observe(0.25)

    def read():
        while not done.is_set():
            tally.read()

    writers = [threading.Thread(target=observe) for _ in range(4)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    counts, total = tally.read()
    assert counts == [0, 0, 4 * each, 4 * each, 4 * each]
    assert total == 4 * each * 0.25


def test_what_nobody_reads_does_not_pile_up():
    tally = both()[0].of("predict")
    for _ in range(10 * MANY):
        tally.observe(1.0)
    assert len(tally.new) < MANY
