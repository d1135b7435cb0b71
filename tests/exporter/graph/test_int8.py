"""Static 8-bit quantization: near the float model, self-contained and quiet."""

import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from clearweight.exporter.graph import ParameterError, int8_onnx, session, to_onnx


def test_logits_stay_near_and_top_classes_agree(network, exported):
    module, images = network
    model = exported(module, images)
    feed = {"input": images.numpy()}

    exact = session(model).run(None, feed)[0]
    coarse = session(int8_onnx(model, images.numpy())).run(None, feed)[0]

    assert 0 < np.abs(coarse - exact).max() < 0.05 * np.ptp(exact)


def test_weights_are_symmetric_int8_with_a_scale_per_output(pooled_cnn, exported):
    module, images = pooled_cnn
    model = int8_onnx(exported(module, images), images.numpy())
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    weight, scale = arrays["conv1.weight"], arrays["conv1.weight.scale"]

    assert weight.dtype == np.int8
    assert np.abs(weight).max() == 64  # so that two products fit 16 bits: 2 * 255 * 64 < 2 ** 15
    assert scale.shape == (6,)
    assert not np.any(arrays["conv1.weight.zero_point"])
    exact = module.conv1.weight.detach().numpy()
    assert np.abs(weight * scale[:, None, None, None] - exact).max() <= scale.max() / 2 * 1.001


def test_ranges_are_those_of_the_calibration_inputs(pooled_cnn, exported):
    module, images = pooled_cnn
    model = exported(module, images)

    scales = []
    for factor in (1.0, 3.0):
        quantized = int8_onnx(model, images.numpy() * np.float32(factor))
        arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
        scales.append(float(arrays["input.scale"]))
    span = float(images.max().clamp(min=0) - images.min().clamp(max=0))

    assert scales[0] == pytest.approx(span / 255, rel=1e-3)
    assert scales[1] == pytest.approx(3 * scales[0], rel=1e-3)


def test_only_standard_operators_and_nothing_of_the_host_remain(pooled_cnn, exported):
    module, images = pooled_cnn
    model = int8_onnx(exported(module, images), images.numpy())
    content = model.SerializeToString()

    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert not model.producer_name
    assert not model.metadata_props
    assert tempfile.gettempdir().encode() not in content


def test_a_large_layer_takes_a_quarter():
    module = torch.nn.Linear(400, 50)
    images = torch.randn(9, 400)
    model = to_onnx(module, images)

    quantized = int8_onnx(model, images.numpy())

    assert len(quantized.SerializeToString()) < 0.3 * len(model.SerializeToString())


def test_nothing_is_left_behind_printed_or_logged(perceptron, tmp_path, monkeypatch, capfd, caplog, exported):
    module, images = perceptron
    model = exported(module, images)
    before = model.SerializeToString()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger().level

    int8_onnx(model, images.numpy())

    assert list(Path(tmp_path).iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []
    assert logging.getLogger().level == level
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    "calibration",
    [np.zeros((3, 1, 8, 9), np.float32), np.zeros((0, 1, 8, 8), np.float32), np.zeros((3, 1, 8, 8))],
)
def test_inputs_that_do_not_fit_are_a_named_error(perceptron, calibration, exported):
    model = exported(*perceptron)

    with pytest.raises(ParameterError, match=r"expected \(n, 1, 8, 8\) with n >= 1 and float32"):
        int8_onnx(model, calibration)


def test_the_logits_stay_float_however_far_they_lie_outside_what_was_calibrated(pooled_cnn, exported):
    module, images = pooled_cnn
    model = int8_onnx(exported(module, images), images.numpy())
    with torch.no_grad():
        module.fc.weight.mul_(1.0)
        module.fc.bias.add_(100.0)
    far = int8_onnx(exported(module, images), images.numpy())

    assert model.graph.node[-1].output[0] == "logits"
    assert model.graph.node[-1].op_type == "Gemm"
    moved = (
        session(far).run(None, {"input": images.numpy()})[0]
        - session(model).run(None, {"input": images.numpy()})[0]
    )
    assert np.allclose(moved, 100.0, atol=0.05)
    rows = session(model).run(
        None, {"input": np.random.default_rng(0).random((200, *images.shape[1:]), np.float32)}
    )[0]
    assert len(np.unique(rows)) > 300  # more than 8 bits could tell apart


def test_zero_weights_stay_zero_and_equal_weights_stay_equal_under_one_scale(pooled_cnn, exported):
    module, images = pooled_cnn
    values = torch.tensor([0.0, -0.31, 0.07, 0.11, 0.5])
    with torch.no_grad():
        for weight in (module.conv1.weight, module.conv2.weight, module.fc.weight):
            weight.copy_(values[torch.randint(5, weight.shape, generator=torch.Generator().manual_seed(1))])
    model = exported(module, images)

    def stored(*, per_channel):
        quantized = int8_onnx(model, images.numpy(), per_channel=per_channel)
        return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}

    for name, exact in (("conv1.weight", module.conv1.weight), ("fc.weight", module.fc.weight)):
        zero = exact.detach().numpy() == 0
        for per_channel in (True, False):
            assert not stored(per_channel=per_channel)[name][zero].any()
        assert len(np.unique(stored(per_channel=False)[name])) == 5
    assert len(np.unique(stored(per_channel=True)["conv2.weight"])) >= 5
    assert stored(per_channel=False)["conv1.weight.scale"].shape == ()


def test_equal_scales_and_zero_points_are_kept_once(pooled_cnn, exported):
    module, images = pooled_cnn
    model = int8_onnx(exported(module, images), images.numpy())
    settings = [t for t in model.graph.initializer if t.name.endswith((".scale", ".zero_point"))]

    content = [(t.data_type, tuple(t.dims), onnx.numpy_helper.to_array(t).tobytes()) for t in settings]
    assert len(set(content)) == len(content)
