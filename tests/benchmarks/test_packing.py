import numpy as np
import pytest

from benchmarks.packing import entropy_bytes, packed_rows
from tests.artifact.samples import coded, packed


def test_streams_and_heads_add_up_to_the_file():
    tensors = [coded("a", (60, 90), 0.1), coded("b", (20, 20), 1.0)]
    figures = {row.metric: row.value for row in packed_rows("case", tensors)}

    assert figures["huffman_bytes"] == len(packed(tensors))
    assert figures["range_bytes"] == len(packed(tensors, "range"))
    heads = figures["huffman_bytes"] - figures["huffman_positions_bytes"] - figures["huffman_values_bytes"]
    assert 10 < heads < 50
    assert figures["range_over_huffman"] == figures["range_bytes"] / figures["huffman_bytes"]


def test_entropy_is_that_of_the_histogram():
    assert entropy_bytes(np.array([8, 8, 0])) == pytest.approx(2.0)
    assert entropy_bytes(np.array([16, 0])) == 0.0
