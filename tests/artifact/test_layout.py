import numpy as np
import pytest
from hypothesis import given, settings

from clearweight.artifact import CodedTensor
from clearweight.artifact.layout import candidates, content_of, smallest
from clearweight.artifact.payload import encode_payload
from clearweight.artifact.record import Support, Values
from clearweight.artifact.symbol_block import run_exponent
from clearweight.artifact.walk import WALKS
from tests.artifact.samples import coded, packed_report, tensors


def measured(tensor: CodedTensor, form) -> int:
    return sum(len(part) for part in encode_payload(content_of(tensor), form))


@settings(max_examples=30, deadline=None)
@given(tensors())
def test_predictions_are_exact_while_there_is_one_stream(tensor):
    assert tensor.values.size <= 1 << 16
    for candidate in candidates(content_of(tensor))[:40]:
        streams = 2 * -(-2 * tensor.values.size >> run_exponent(0))
        assert abs(measured(tensor, candidate.form) - candidate.size) <= (0 if streams <= 2 else streams)


@pytest.mark.parametrize(
    ("density", "entries", "layout"),
    [
        (0.05, 32, "gaps6-huffman+codebook-huffman-f2"),
        (0.9, 32, "dense+codebook-huffman-f2"),
        (0.0, 32, "dense+codebook-f2"),
    ],
)
def test_the_layout_follows_the_density(density, entries, layout):
    report = packed_report([coded("w", (200, 300), density, entries)])[1]

    assert report.records[0].layout == layout


def test_a_mask_wins_where_half_of_the_raw_values_are_zero():
    random = np.random.default_rng(0)
    values = random.normal(size=(100, 100)).astype(np.float32) * (random.random((100, 100)) < 0.5)

    assert (
        packed_report([CodedTensor("w", values.astype(np.float32))])[1].records[0].layout.startswith("mask")
    )


def test_the_walk_follows_the_zeros():
    # Whole columns are zero: walking down the columns gives long gaps and long runs, which cost least.
    tensor = coded("w", (60, 200), 1.0)
    indices = np.where(np.random.default_rng(1).random(200) < 0.2, tensor.indices, 0).astype(np.uint8)
    report = packed_report([CodedTensor("w", tensor.codebook[indices], tensor.codebook, indices)])[1]

    assert report.records[0].walk == "1,0"


def test_four_dimensional_tensors_try_all_24_walks():
    tensor = coded("w", (3, 4, 2, 5), 0.2)
    walks = {c.form.walk for c in candidates(content_of(tensor)) if c.form.support == Support.GAPS}

    assert walks == set(range(len(WALKS[4])))


def test_the_written_form_is_no_larger_than_any_other():
    for density in (0.03, 0.2, 0.5, 0.9):
        tensor = coded("w", (50, 70), density)
        written = packed_report([tensor])[1].records[0].payload_bytes

        assert written == min(measured(tensor, c.form) for c in candidates(content_of(tensor)))


def test_smallest_looks_only_where_it_is_told():
    found = candidates(content_of(coded("w", (50, 70), 0.1)))
    plain = smallest(found, (Support.DENSE,), (Values.RAW,))

    assert (plain.form.support, plain.form.values) == (Support.DENSE, Values.RAW)
    assert plain.size == 2 * 50 * 70
