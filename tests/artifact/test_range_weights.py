"""Files of version 2: whichever of Huffman and range code is smaller, tensor by tensor."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearweight.artifact import CodedTensor, WeightsReader
from clearweight.artifact.errors import (
    ArtifactError,
    PositionError,
    TensorFieldError,
    UnsupportedVersionError,
)
from clearweight.artifact.record import Support, Values
from tests.artifact.samples import coded, named, network, packed, packed_report, resealed, same_bits, tensors

GOLDEN = Path(__file__).parent / "golden"
RANGE_SHA256 = "a4b187c95f5f85abd31d94c6772f3cbd77c800e22e00b01442b48a46102d02a5"


def clustered(name: str = "w", shape: tuple[int, int] = (60, 80)) -> CodedTensor:
    """A pruned tensor with dead columns, where range code wins clearly."""
    tensor = coded(name, shape, 1.0, 12)
    random = np.random.default_rng(3)
    kept = random.random(shape) < random.beta(0.15, 0.9, size=shape[1])
    indices = np.where(kept, tensor.indices, 0).astype(np.uint8)
    return CodedTensor(name, tensor.codebook[indices], tensor.codebook, indices)


@settings(max_examples=40, deadline=None)
@given(st.lists(tensors(), max_size=3, unique_by=lambda tensor: tensor.name))
def test_any_tensors_come_back_bit_for_bit_and_never_larger(given_tensors):
    data = packed(given_tensors, "range")
    back = dict(WeightsReader(data).tensors())

    assert all(same_bits(back[tensor.name], tensor.values) for tensor in given_tensors)
    assert len(data) <= len(packed(given_tensors))


def test_a_clustered_mask_and_its_values_take_range_code_and_a_twelfth_less():
    tensor = clustered(shape=(300, 100))
    record = packed_report([tensor], "range")[1].records[0]

    assert (record.form.support, record.form.values) == (Support.MASK_RANGE, Values.CODEBOOK_RANGE)
    assert len(packed([tensor], "range")) < 11 / 12 * len(packed([tensor]))


def test_values_take_range_code_where_huffman_wastes_part_of_a_bit():
    skewed = np.where(np.random.default_rng(0).random((100, 100)) < 0.02, 2.0, 1.0).astype(np.float32)
    record = packed_report([CodedTensor("w", skewed)], "range")[1].records[0]

    assert record.form.values == Values.CODEBOOK_RANGE
    assert record.bytes < 0.2 * 10_000 / 8


def test_the_rows_of_a_mask_follow_the_axis_that_is_sparse():
    along, across = clustered(), clustered()
    turned = CodedTensor("w", across.values.T.copy(), across.codebook, across.indices.T.copy())
    sizes = [packed_report([t], "range")[1].records[0] for t in (along, turned)]

    assert {record.walk for record in sizes} == {"0,1", "1,0"}
    assert abs(sizes[0].bytes - sizes[1].bytes) <= 4


def test_version_1_files_hold_no_range_code():
    data = bytearray(packed([clustered()], "range")[:-4])
    assert data[4] == 2
    data[4] = 1
    with pytest.raises(TensorFieldError, match="range code, which files of version 1"):
        WeightsReader(resealed(bytes(data)))


def test_the_version_after_this_is_refused_by_name():
    data = bytearray(packed([clustered()], "range")[:-4])
    data[4] = 4
    with pytest.raises(UnsupportedVersionError, match="version 4, this reader knows versions 1 to 3"):
        WeightsReader(resealed(bytes(data)))


def test_a_mask_with_more_ones_than_stated_is_refused():
    tensor = clustered()
    whole, report = packed_report([tensor], "range")
    form, data = report.records[0].form, bytearray(whole[:-4])
    place = data.index(bytes([form.support | form.values << 3 | 1 << 5])) + 2
    zeros = 4800 - np.count_nonzero(tensor.values)
    assert data[place] & 127 | data[place + 1] << 7 == zeros
    data[place] ^= 1
    with pytest.raises(PositionError, match="its record states"):
        dict(WeightsReader(resealed(bytes(data))).tensors())


def test_mutations_with_a_right_checksum_give_a_named_error_or_a_tensor():
    random = np.random.default_rng(0)
    data = packed([clustered(shape=(20, 30)), coded("v", (9, 9), 1.0), *network()[8:10]], "range")[:-4]
    for _ in range(150):
        changed = bytearray(data)
        changed[random.integers(5, len(data))] = random.integers(0, 256)
        try:
            dict(WeightsReader(resealed(bytes(changed))).tensors())
        except ArtifactError as error:
            if not named(error):
                raise


def test_the_golden_range_coded_file_opens_and_is_still_written():
    data = (GOLDEN / "range.cwt").read_bytes()
    expected = np.load(GOLDEN / "range.npz")
    reader = WeightsReader(data)

    assert hashlib.sha256(data).hexdigest() == RANGE_SHA256
    assert {r.form.support for r in reader.records} >= {Support.MASK_RANGE, Support.DENSE}
    assert all(same_bits(values, expected[name]) for name, values in reader.tensors())
    assert packed([CodedTensor(name, expected[name]) for name in expected.files], "range") == data
