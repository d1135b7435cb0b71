import pytest

from clearweight.service.drift.rate import DAY, RateMeter


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_steady_rate_is_found_within_minutes():
    clock = Clock()
    meter = RateMeter(clock)
    assert meter.per_second == 1.0  # before anything was seen
    for _ in range(600):
        clock.now += 1.0
        meter.add(5)

    assert meter.per_second == pytest.approx(5.0, rel=0.1)


def test_a_lasting_change_shows_within_days_and_a_quiet_night_does_not():
    clock = Clock()
    meter = RateMeter(clock)
    found = []
    for hour in range(24 * 12):
        clock.now += 3600.0
        busy = 8 <= hour % 24 < 20
        meter.add((7200 if busy else 0) * (1 if hour < 24 * 6 else 10))
        found.append(meter.per_second)

    assert all(0.6 < rate < 1.5 for rate in found[24 * 3 : 24 * 6])
    assert found[-1] == pytest.approx(10.0, rel=0.35)


def test_silence_ages_what_was_counted():
    clock = Clock()
    meter = RateMeter(clock)
    meter.add(1000)
    clock.now += 20 * DAY

    assert meter.per_second < 1e-4
