"""The slow hostile suite: at least 20,000 mutations in bounded time and memory (SPEC.md section 6)."""

import time
import tracemalloc

import numpy as np
import pytest

from clearweight.artifact import WeightsReader, canary_from_bytes, manifest_from_bytes, manifest_to_bytes
from clearweight.artifact.errors import ArtifactError
from tests.artifact.samples import (
    canary,
    coded,
    manifest,
    named,
    network,
    packed,
    packed_report,
    resealed,
    same_bits,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MUTATIONS = 12_000
LIMIT = 100e6


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Change, cut, extend, repeat or zero some bytes."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        place = int(random.integers(0, max(len(changed), 1)))
        match int(random.integers(0, 6)):
            case 0:
                changed[place : place + 1] = random.bytes(1)
            case 1:
                changed[place : place + 1] = bytes(
                    [changed[place] ^ 1 << int(random.integers(0, 8))] if changed else b""
                )
            case 2:
                del changed[place : place + int(random.integers(1, 9))]
            case 3:
                changed[place:place] = random.bytes(int(random.integers(1, 9)))
            case 4:
                changed[place : place + 8] = b"\xff" * 8
            case _:
                changed[place:place] = changed[place : place + int(random.integers(1, 64))]
    return bytes(changed)


def test_no_mutation_of_packed_weights_is_accepted():
    tensors = [*network(), coded("long.weight", (90, 100), 0.5, 32)]
    data = packed(tensors)
    random = np.random.default_rng(0)
    tracemalloc.start()
    for _ in range(MUTATIONS):
        changed = mutated(data, random)
        if changed == data:
            continue
        with pytest.raises(ArtifactError) as caught:
            dict(WeightsReader(changed).tensors())
        assert named(caught.value), type(caught.value)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < LIMIT


def test_mutations_under_a_right_checksum_are_named_errors_or_tensors_and_never_long_or_large():
    # Few and small, because most of these decode; the second has two streams.
    tensors = [
        coded("gaps", (12, 20), 0.1),
        coded("dense", (46, 46), 0.9),
        coded("fields", (5, 5), 0.4),
        *network()[4:8],
    ]
    data = packed(tensors)[:-4]
    random = np.random.default_rng(1)
    longest = 0.0
    tracemalloc.start()
    for _ in range(MUTATIONS):
        changed = resealed(mutated(data, random))
        begin = time.perf_counter()
        try:
            for _, values in WeightsReader(changed).tensors():
                assert values.nbytes < LIMIT
        except ArtifactError as error:
            if not named(error):
                raise
        longest = max(longest, time.perf_counter() - begin)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4 * LIMIT  # a file may truthfully claim 64 MiB; see section 3.7
    assert longest < 10


def test_no_mutation_of_a_manifest_is_accepted():
    data = manifest_to_bytes(manifest(packed_report(network())[1]))
    random = np.random.default_rng(2)
    for _ in range(MUTATIONS // 4):
        changed = mutated(data, random)
        if changed == data:
            continue
        with pytest.raises(ArtifactError) as caught:
            manifest_from_bytes(changed)
        assert named(caught.value), type(caught.value)


def test_mutated_canaries_are_named_errors_or_canaries():
    data = canary().to_bytes()
    random = np.random.default_rng(3)
    for _ in range(MUTATIONS // 4):
        try:
            canary_from_bytes(mutated(data, random))
        except ArtifactError as error:
            if not named(error):
                raise


def test_long_streams_of_several_segments_come_back():
    random = np.random.default_rng(4)
    tensor = coded("w", (1 << 11, (1 << 12) + 3), 0.9, 64, int(random.integers(99)))

    assert same_bits(WeightsReader(packed([tensor])).read("w"), tensor.values)
