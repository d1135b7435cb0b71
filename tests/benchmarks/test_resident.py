"""What the memory benchmark counts: parameters, once, in the form that the runtime keeps."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from benchmarks.resident import FORMS, Subject, memory, mixed_bits, write_served
from benchmarks.vgg import VGG16, Vgg
from clearweight.artifact import WeightsReader
from clearweight.exporter.graph import split_parameters, to_onnx, weights_of


def layers(width):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, width), nn.ReLU(), nn.Linear(width, 4)
    ).eval()


@pytest.fixture(scope="module")
def subject():
    images = np.random.default_rng(0).random((6, 1, 8, 8), np.float32)
    module, example = layers(6000), torch.zeros(2, 1, 8, 8)
    narrow = to_onnx(layers(2), example)
    return Subject(module, to_onnx(module, example), narrow, images, images, None)


@pytest.mark.parametrize(
    ("form", "low", "high"), [("float32", 0.95, 1.1), ("weights8", 0.25, 0.35), ("int4", 0.13, 0.22)]
)
def test_resident_is_what_the_parameters_take(subject, tmp_path, form, low, high):
    own, narrow = FORMS[form](subject, subject.model), FORMS[form](subject, subject.narrow)
    size = sum(values.nbytes for values in split_parameters(subject.model)[1].values())

    found = memory(tmp_path, own, narrow, 3, 1, served=False)

    assert low * size < found["resident"] < high * size
    assert found["session"] > found["resident"]


def test_what_is_served_is_what_lies_in_the_form(subject, tmp_path):
    made = FORMS["weights8"](subject, subject.model)
    write_served(tmp_path / "own", made)
    stored = dict(WeightsReader(tmp_path / "own" / "weights.cwt").tensors())

    assert set(stored) == {tensor.name for tensor in made.graph.initializer}
    for name in ("predict", "explain"):
        graph = onnx.load(tmp_path / "own" / f"{name}.onnx", load_external_data=False).graph
        assert all(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer)


def test_mixed_bits_stay_inside_their_limit(subject):
    bits = mixed_bits(subject)

    assert set(bits) == set(weights_of(subject.model))
    assert set(bits.values()) <= {4, 8}


def test_vgg16_has_its_parameters():
    with torch.device("meta"):
        module = Vgg(VGG16, 224, channels=3, hidden=4096, classes=1000)

    assert sum(p.numel() for p in module.parameters()) == 138_357_544
