"""The plain ONNX files beside an artifact, and the record of what each costs."""

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from clearweight.exporter.graph import session
from clearweight.exporter.plain_forms import FORMS, compared


@pytest.fixture(scope="module")
def record(exported):
    return json.loads((exported.onnx_path / "forms.json").read_bytes())


def test_the_record_is_what_the_files_do(exported, record):
    test = exported.prepared.test
    x = exported.prepared.inputs(test).numpy()
    aim = session(exported.compressed.predict).run(None, {"input": x})[0]

    assert record["inputs"] == len(x) == 300
    assert set(record["forms"]) == {"float32", *FORMS}
    for name in FORMS:
        path = exported.onnx_path / name
        own = ort.InferenceSession(path).run(None, {"input": x})[0]
        found = record["forms"][name]
        assert found["bytes"] == path.stat().st_size
        assert found["accuracy"] == pytest.approx((own.argmax(1) == test.labels).mean())
        assert found["agreement"] == pytest.approx((own.argmax(1) == aim.argmax(1)).mean())
        assert found["largest_error"] == pytest.approx(
            np.abs(own - aim).max() / (aim.max() - aim.min()), rel=0.05, abs=1e-5
        )


def test_half_precision_is_half_the_file_and_nearly_all_of_the_answer(record):
    forms = record["forms"]

    assert forms["model.float16.onnx"]["largest_error"] < 1e-3
    assert forms["model.float16.onnx"]["accuracy"] == forms["float32"]["accuracy"]
    assert forms["float32"]["largest_error"] == 0.0
    parameters = forms["float32"]["bytes"] - forms["model.float16.onnx"]["bytes"]
    assert parameters > 0.4 * forms["float32"]["bytes"]


def test_fewer_bits_are_fewer_bytes(record):
    sizes = [record["forms"][f"model.{form}.onnx"]["bytes"] for form in ("float16", "int4")]

    assert sizes[1] < 0.6 * sizes[0] < 0.6 * record["forms"]["float32"]["bytes"]


def test_four_bits_are_written_as_four_bits(exported):
    model = onnx.load(exported.onnx_path / "model.int4.onnx")
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}

    assert kinds["conv1.weight"] == onnx.TensorProto.INT4
    assert kinds["fc1.weight"] == onnx.TensorProto.UINT8
    assert {node.op_type for node in model.graph.node} >= {"MatMulNBits", "DequantizeLinear"}


def test_a_form_is_compared_by_hand():
    aim, own = np.float32([[0, 4], [2, 1]]), np.float32([[0, 3], [1, 2]])

    found = compared(b"12345", own, aim, np.array([1, 1]))

    assert (found.bytes, found.accuracy, found.agreement, found.largest_error) == (5, 1.0, 0.5, 0.25)
