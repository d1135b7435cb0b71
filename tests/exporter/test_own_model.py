"""The user's file is what counts: whatever was rewritten, its outputs are the ones that the graphs must return."""

import numpy as np
import onnx
import pytest

from clearweight.exporter import own_model
from clearweight.exporter.explain import VerificationError
from clearweight.exporter.graph import UnsupportedModelError
from clearweight.exporter.own_model import explain_own, outputs_of, prepare, random_samples
from tests.cli import onnx_files


def test_outputs_of_a_fixed_batch_come_row_by_row():
    model = onnx_files.model(
        inputs=(onnx_files.value("x", [2, *onnx_files.SHAPE]),), outputs=(onnx_files.value("logits", [2, 3]),)
    )
    x = random_samples(onnx_files.SHAPE, 5)

    assert np.allclose(outputs_of(model, x), onnx_files.logits(x), atol=1e-5)


def test_a_fixed_batch_is_freed():
    model = onnx_files.model(
        inputs=(onnx_files.value("x", [1, *onnx_files.SHAPE]),), outputs=(onnx_files.value("logits", [1, 3]),)
    )

    own = prepare(model)
    made = explain_own(own, ["gradient"], random_samples(own.row, 3))

    assert own.row == onnx_files.SHAPE
    assert made["gradient"][1].verification.samples == 3


def test_a_batch_that_only_seems_free_is_refused():
    from onnx import helper

    # What a tracer writes where the code asked for len(x): one token, whatever the batch.
    token = helper.make_node("Concat", ["logits", "one_row"], ["stacked"], "stack", axis=1)
    head = helper.make_node("Gemm", ["stacked", "m"], ["answer"], "answer")
    weights = onnx_files.WEIGHTS | {"one_row": np.ones((1, 3), np.float32), "m": np.ones((6, 3), np.float32)}
    model = onnx_files.model(
        [*onnx_files.LAYERS, token, head],
        outputs=(onnx_files.value("answer", ["batch", 3]),),
        weights=weights,
    )

    with pytest.raises(UnsupportedModelError, match="batch"):
        prepare(model)


def test_random_samples_are_the_same_each_time():
    assert np.array_equal(random_samples((2, 3), 4), random_samples((2, 3), 4))


def test_a_rewriting_that_changes_the_model_is_caught():
    own = prepare(onnx_files.model())
    changed = onnx.ModelProto()
    changed.CopyFrom(own.classifier)
    bias = next(tensor for tensor in changed.graph.initializer if tensor.name == "c")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx_files.WEIGHTS["c"] + np.float32(0.1), "c"))
    wrong = own_model.OwnModel(own.source, changed, None, ())

    with pytest.raises(VerificationError, match="other outputs than the model itself"):
        explain_own(wrong, ["gradient"], random_samples(own.row, 3))


def test_what_was_changed_is_told():
    assert not [change for change in prepare(onnx_files.model()).changes if "Softmax" in change]
    assert "Softmax" in prepare(onnx_files.with_tail("Softmax")).changes[-1]
