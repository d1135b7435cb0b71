"""From torch to the canonical graph: the same function, names and bits, and nothing else."""

import hashlib
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from clearweight.exporter.graph import TorchExportError, fold_batchnorm, session, to_onnx


def stored(model):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def run(model, images):
    return session(model).run(None, {model.graph.input[0].name: images.numpy()})[0]


def test_logits_equal_those_of_torch_at_any_batch_size(network):
    module, images = network

    model = to_onnx(module, images)

    for count in (1, 2, 7):
        with torch.no_grad():
            expected = module(images[:count]).numpy()
        assert np.abs(run(model, images[:count]) - expected).max() < 1e-5


def test_initializers_are_the_parameters_bit_for_bit(network):
    module, images = network
    expected = {name: value.detach().numpy() for name, value in fold_batchnorm(module).named_parameters()}

    found = stored(to_onnx(module, images))

    assert set(found) == set(expected)
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
    assert all(found[name].shape == expected[name].shape for name in expected)


class Tokens(nn.Module):
    """A linear layer on three axes: exporters like to transpose its weight for MatMul."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(6, 4)
        self.scale = nn.Parameter(torch.randn(4))
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return self.head((self.mix(x) * self.scale).mean(1))


def test_no_weight_is_transposed_and_every_parameter_is_kept():
    torch.manual_seed(3)
    module, images = Tokens().eval(), torch.randn(4, 5, 6)

    model = to_onnx(module, images)

    assert {name: array.shape for name, array in stored(model).items()} == {
        "mix.weight": (4, 6),
        "mix.bias": (4,),
        "scale": (4,),
        "head.weight": (3, 4),
    }
    with torch.no_grad():
        assert np.abs(run(model, images) - module(images).numpy()).max() < 1e-5


def test_equal_parameters_are_not_merged():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).eval()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(module[1], name).copy_(getattr(module[0], name))

    assert set(stored(to_onnx(module, torch.randn(2, 4)))) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_zero_parameters_are_kept():
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    nn.init.zeros_(module[0].bias)
    nn.init.zeros_(module[2].weight)

    assert set(stored(to_onnx(module, torch.randn(2, 4)))) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_layers_without_bias_get_none():
    module = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.Flatten(), nn.Linear(32, 2, bias=False)).eval()

    model = to_onnx(module, torch.randn(2, 1, 6, 6))

    assert [len(node.input) for node in model.graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}] == [
        2,
        2,
    ]
    assert set(stored(model)) == {"0.weight", "2.weight"}


class Centred(nn.Module):
    """A buffer is a constant of the structure, not a parameter."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.randn(4))
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x - self.centre)


def test_buffers_become_constants():
    module = Centred().eval()
    images = torch.randn(3, 4)

    model = to_onnx(module, images)

    assert set(stored(model)) == {"fc.weight", "fc.bias"}
    assert [node.op_type for node in model.graph.node] == ["Constant", "Sub", "Gemm"]


class Halved(nn.Module):
    def forward(self, weight):
        return weight * 0.5


def test_parametrizations_are_applied_under_the_plain_name(perceptron):
    module, images = perceptron
    parametrize.register_parametrization(module.fc1, "weight", Halved())

    model = to_onnx(module, images)

    assert set(stored(model)) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    assert np.array_equal(stored(model)["fc1.weight"], module.fc1.weight.detach().numpy())
    assert parametrize.is_parametrized(module.fc1)


def test_module_keeps_its_mode_and_gradients(perceptron):
    module, images = perceptron
    module.train()

    to_onnx(module, images)

    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_names_are_the_ones_asked_for(perceptron):
    module, images = perceptron

    model = to_onnx(module, images, input_name="image", output_name="scores")

    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["scores"]


def test_nothing_is_printed_logged_or_warned(perceptron, capfd, caplog):
    module, images = perceptron
    before = logging.root.manager.disable

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        to_onnx(module, images)

    assert caught == []
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []
    assert logging.root.manager.disable == before


def test_an_example_of_one_image_leaves_the_batch_free(perceptron):
    module, images = perceptron

    model = to_onnx(module, images[:1])

    assert run(model, images).shape == (7, 5)


class Unexportable(nn.Module):
    def forward(self, x):
        return x if x.sum().item() > 0 else -x


def test_a_module_that_cannot_be_exported_is_a_named_error():
    with pytest.raises(TorchExportError, match=r"cannot export Unexportable on input of shape \(2, 3\)"):
        to_onnx(Unexportable(), torch.randn(1, 3))


SCRIPT = """
import hashlib, torch
from torch import nn
from clearweight.exporter.graph import int8_onnx, sparse_onnx, to_onnx
torch.manual_seed(5)
module = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                       nn.Flatten(), nn.Linear(36, 3))
images = torch.randn(4, 1, 8, 8)
model = to_onnx(module, images)
content = model.SerializeToString()
marks = (b"site-packages", b"pytorch", b"stack_trace", b"producer", MARK)
print([mark for mark in marks if mark in content])
for data in (content, sparse_onnx(model), int8_onnx(model, images.numpy()).SerializeToString()):
    print(hashlib.sha256(data).hexdigest())
"""


def test_bytes_do_not_depend_on_the_directory_and_hold_no_paths(tmp_path):
    answers = []
    for name in ("first_directory", "second_directory"):
        place = tmp_path / name
        place.mkdir()
        (place / "script.py").write_text(SCRIPT.replace("MARK", repr(name.encode())))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(len(answers) + 1)}
        answers.append(
            subprocess.run(
                [sys.executable, "script.py"],
                cwd=place,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()
        )
        assert [file.name for file in Path(place).iterdir()] == ["script.py"]

    assert answers[0] == answers[1]
    assert answers[0][0] == "[]"
    assert all(len(line) == len(hashlib.sha256().hexdigest()) for line in answers[0][1:])
