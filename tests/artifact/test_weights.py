import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearweight.artifact import CodedTensor, WeightsReader, write_weights
from clearweight.artifact.errors import (
    CodedTensorError,
    DuplicateTensorError,
    SizeLimitError,
    TensorNameError,
    UnknownTensorError,
)
from clearweight.artifact.weights import OVERHEAD_BYTES
from tests.artifact.samples import coded, network, packed, packed_report, resealed, same_bits, tensors

MAGIC = "89435754" + "01"


@settings(max_examples=150, deadline=None)
@given(st.lists(tensors(), max_size=4, unique_by=lambda tensor: tensor.name))
def test_any_tensors_come_back_bit_for_bit(given_tensors):
    data, report = packed_report(given_tensors)
    reader = WeightsReader(data)
    back = dict(reader.tensors())

    assert list(back) == [tensor.name for tensor in given_tensors]
    for tensor in given_tensors:
        assert same_bits(back[tensor.name], tensor.values)
        assert same_bits(reader.read(tensor.name), tensor.values)
    assert reader.records == report.records
    assert len(data) == report.packed_bytes == sum(r.bytes for r in reader.records) + OVERHEAD_BYTES


@pytest.mark.parametrize(
    ("tensor", "body"),
    [
        # SPEC.md 3.1: no tensors.
        (None, ""),
        # 3.3: name, float32 of rank 1, shape, raw values as float16, no zeros, four bytes.
        (CodedTensor("b", np.array([1.0, -2.0], np.float32)), "01 62 11 02 20 00 04 003c 00c0"),
        # 0.1 does not fit float16.
        (CodedTensor("b", np.array([0.1], np.float32)), "01 62 11 01 00 00 04 cdcccc3d"),
        # A scalar has rank 0 and no shape.
        (CodedTensor("s", np.array(1.0, np.float32)), "01 73 01 20 00 02 003c"),
        # An empty tensor has no payload.
        (CodedTensor("e", np.zeros((0, 3), np.float32)), "01 65 21 00 03 00 00 00"),
        # One value throughout: a codebook of one entry (its size minus one), no indices; nine zeros.
        (CodedTensor("z", np.zeros((3, 3), np.float32)), "01 7a 21 03 03 28 09 03 00 0000"),
        # Codebook of 1 and 2 with one-bit fields: 0 0 0 0 1 0 0 0.
        (CodedTensor("i", np.array([1, 1, 1, 1, 2, 1, 1, 1], np.int64)), None),
        # int8, raw.
        (CodedTensor("c", np.array([-1, 0], np.int8)), "01 63 13 02 00 01 02 ff00"),
        # Gaps of width 4 in fields: one value behind twenty zeros, a filler (0) and five zeros (6); walk 0.
        (CodedTensor("g", np.eye(1, 30, 20, dtype=np.float32)[0]), None),
    ],
    ids=["no tensors", "float16", "float32", "scalar", "empty", "zero", "codebook", "int8", "gaps"],
)
def test_the_smallest_files_are_these_bytes(tensor, body):
    literal = {
        "i": "01 69 16 08 08 00 12 01 0100000000000000 0200000000000000 10",
        "g": "01 67 11 1e 21 60 1d 04 01 60 003c",
    }
    expected = resealed(bytes.fromhex(MAGIC + (literal[tensor.name] if body is None else body) + "00"))

    assert packed([tensor] if tensor is not None else []) == expected


def test_the_same_tensors_give_the_same_bytes():
    assert packed(network()) == packed(network())


def test_order_is_kept_and_memory_order_does_not_matter():
    tensor = coded("w", (30, 40), 0.2)
    turned = CodedTensor(
        "w", np.asfortranarray(tensor.values), tensor.codebook, np.asfortranarray(tensor.indices)
    )

    assert packed([tensor]) == packed([turned])


def test_the_writer_takes_tensors_one_at_a_time_and_only_appends():
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    alive = []

    def stream():
        for tensor in network():
            alive.append(len(pipe.data))
            yield tensor

    pipe = Pipe()
    write_weights(pipe, stream())

    assert alive == sorted(set(alive))  # each tensor was out before the next was asked for
    assert pipe.data == packed(network())


def test_two_tensors_of_one_name_are_not_written():
    with pytest.raises(DuplicateTensorError, match="'w' is there twice"):
        packed([coded("w", (2, 2), 0.5), coded("w", (3, 3), 0.5)])


def test_bad_tensors_are_not_written():
    with pytest.raises(TensorNameError):
        packed([coded("../w", (2, 2), 0.5)])
    with pytest.raises(CodedTensorError):
        packed([CodedTensor("w", np.zeros(2, dtype=bool))])


def test_a_file_no_reader_would_open_is_not_written():
    # SPEC.md 3.7: 64 MiB and 1024 bytes per byte of the file.
    with pytest.raises(SizeLimitError):
        packed([CodedTensor("w", np.zeros((17, 1 << 20), dtype=np.float32))])
    packed([CodedTensor("w", np.zeros((16, 1 << 20), dtype=np.float32))])


def test_a_caller_can_bound_what_is_read():
    data = packed(network())
    dense = WeightsReader(data).dense_bytes

    assert WeightsReader(data, max_dense_bytes=dense).records
    with pytest.raises(SizeLimitError, match=f"at most {dense - 1}"):
        WeightsReader(data, max_dense_bytes=dense - 1)


def test_an_unknown_name_is_an_error_that_lists_the_known():
    with pytest.raises(UnknownTensorError, match=r"No tensor 'nope'. Known: conv.weight"):
        WeightsReader(packed(network())).read("nope")


def test_a_path_and_its_bytes_read_alike(tmp_path):
    path = tmp_path / "weights.cwt"
    path.write_bytes(packed(network()))
    from_path, from_bytes = WeightsReader(path), WeightsReader(path.read_bytes())

    assert from_path.records == from_bytes.records
    for (name, a), (_, b) in zip(from_path.tensors(), from_bytes.tensors(), strict=True):
        assert same_bits(a, b), name


def test_the_ledger_accounts_for_every_byte_and_every_stage_is_measured():
    data, report = packed_report(network())
    ledger = report.ledger()

    assert sum(row.bytes for row in ledger.rows) + ledger.overhead_bytes == ledger.packed_bytes == len(data)
    assert ledger.reference_bytes == 4 * sum(tensor.values.size for tensor in network())
    for row, tensor in zip(ledger.rows, network(), strict=True):
        stages = {stage.name: stage.bytes for stage in row.stages}
        assert list(stages) == ["float32", "pruned", "shared", "packed"]
        assert stages["float32"] == 4 * tensor.values.size
        assert stages["packed"] == row.bytes <= stages["shared"] <= stages["pruned"]
        for stage in row.stages:
            size = tensor.values.size
            assert stage.bits_per_weight == pytest.approx(8 * stage.bytes / size if size else 0.0)
        assert row.nonzero == np.count_nonzero(tensor.values)


def test_a_small_network_takes_little_more_than_its_code():
    # 13 bytes of head beside the name, and tables and index below three percent.
    tensor = coded("fc1.weight", (300, 784), 0.05, 32)
    report = packed_report([tensor])[1]
    head = report.records[0].bytes - report.records[0].payload_bytes - len(tensor.name)
    counts = np.bincount(tensor.indices.reshape(-1), minlength=32)[1:]
    entropy = -(counts[counts > 0] * np.log2(counts[counts > 0] / counts.sum())).sum() / 8
    density = counts.sum() / tensor.values.size
    bits = -(density * np.log2(density) + (1 - density) * np.log2(1 - density)) * tensor.values.size / 8

    assert head <= 13
    assert report.records[0].payload_bytes < 1.025 * (entropy + bits) + 64


@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
def test_decoding_a_tensor_takes_little_more_than_itself(density):
    tensor = coded("w", (1000, 4000), density, 256)
    data = packed([tensor])
    reader = WeightsReader(data)
    tracemalloc.start()
    back = reader.read("w")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert same_bits(back, tensor.values)
    assert peak < 1.1 * tensor.values.nbytes + 32e6


def test_tensors_beside_the_parameters_count_their_bytes_and_not_their_elements():
    _, report = packed_report(network())
    beside = {"conv.bias", "scalar"}
    ledger, whole = report.ledger(dict.fromkeys(beside, 0)), report.ledger()

    assert ledger.reference_bytes == whole.reference_bytes - 4 * (6 + 1)
    assert ledger.packed_bytes == whole.packed_bytes
    assert [row.bytes for row in ledger.rows] == [row.bytes for row in whole.rows]
    for row, full in zip(ledger.rows, whole.rows, strict=True):
        assert row.parameters == (0 if row.name in beside else full.parameters)
        assert row.stages[0].bytes == 4 * row.parameters
        assert row.stages[1:] == full.stages[1:]


def test_a_tensor_may_stand_for_more_parameters_than_it_has_elements():
    _, report = packed_report(network())
    ledger, whole = report.ledger({"conv.bias": 60}), report.ledger()
    (row,) = [row for row in ledger.rows if row.name == "conv.bias"]

    assert ledger.reference_bytes == whole.reference_bytes + 4 * (60 - 6)
    assert (row.parameters, row.shape, row.stages[0].bytes, row.stages[0].bits_per_weight) == (
        60,
        (6,),
        240,
        32,
    )
    assert row.stages[-1].bits_per_weight == pytest.approx(8 * row.bytes / 60)
