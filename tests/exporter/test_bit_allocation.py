"""Bits shared out among tensors, against every combination there is."""

from itertools import product

import numpy as np
import pytest

from clearweight.exporter.bit_allocation import Option, allocate, distortion, hull


def drawn(seed, tensors=4):
    """Tensors whose distortion falls as the bits grow, some of them hardly."""
    random = np.random.default_rng(seed)
    found = {}
    for place in range(tensors):
        size, scale = int(random.integers(10, 200)), 10.0 ** random.uniform(-3, 2)
        noise = np.sort(scale * random.random(4) * 4.0 ** -np.arange(0, 8, 2))[::-1]
        found[f"w{place}"] = [
            Option(bits, size * bits // 4, float(d)) for bits, d in zip((4, 8, 16, 32), noise, strict=True)
        ]
    return found


def total(options):
    return sum(option.bytes for option in options)


@pytest.mark.parametrize("seed", range(6))
def test_at_the_size_that_is_reached_nothing_is_better(seed):
    given = drawn(seed)
    every = [(total(c), sum(o.distortion for o in c)) for c in product(*given.values())]
    sizes = sorted({size for size, _ in every})

    for limit in np.linspace(0, sum(d for _, d in every) / len(every), 12)[1:]:
        choice = allocate(given, max_distortion=limit)
        held, found = total(choice.values()), distortion(choice)
        # Choices on the walk are best for the bytes that they take; a smaller one can only hide between two of them.
        assert found <= min(d for size, d in every if size <= held) + 1e-12
        assert found <= limit
    for limit in (sizes[0], sizes[len(sizes) // 2], sizes[-1]):
        choice = allocate(given, max_bytes=limit)
        assert total(choice.values()) <= limit
        best = min(d for size, d in every if size <= limit)
        steps = [
            a.distortion - b.distortion
            for g in given.values()
            for a, b in zip(hull(g), hull(g)[1:], strict=False)
        ]
        assert best - 1e-12 <= distortion(choice) <= best + max(steps)


def test_room_that_one_tensor_does_not_fill_goes_to_another():
    given = {
        "large": [Option(4, 100, 50.0), Option(8, 200, 0.0)],
        "small": [Option(4, 10, 1.0), Option(8, 20, 0.0)],
    }

    choice = allocate(given, max_bytes=150)

    assert {name: option.bits for name, option in choice.items()} == {"large": 4, "small": 8}


def test_limits_that_cannot_be_kept_give_the_nearest():
    given = drawn(0)

    assert {o.bits for o in allocate(given, max_bytes=0).values()} == {4}
    assert {o.bits for o in allocate(given, max_distortion=-1.0).values()} == {32}


def test_bits_that_cost_more_and_help_less_are_never_chosen():
    assert hull([Option(4, 10, 1.0), Option(8, 20, 2.0), Option(16, 40, 0.5)]) == [
        Option(4, 10, 1.0),
        Option(16, 40, 0.5),
    ]
