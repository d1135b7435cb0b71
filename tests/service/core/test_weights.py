"""Both ways of holding a model's parameters give the same answers; one of them takes less memory."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.served_cnn import write_cnn
from clearweight.artifact import CodedTensor, WeightsReader, write_weights
from clearweight.exporter.graph import session, split_parameters, to_onnx, weight_only, weights_of
from clearweight.service import Engine, EngineOptions, InvalidRequestError, LoadError
from clearweight.service.core import weights
from clearweight.service.core.session import Session
from tests.service import artifacts

LOAD = """
import json, sys
from clearweight.service import Engine, EngineOptions

def memory(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

before = memory("VmRSS")
with Engine(sys.argv[1], EngineOptions(memory=sys.argv[2])) as engine:
    model = next(iter(engine.repository)).model
    more = [model._session("predict.onnx", model.input_names, model.output_names) for _ in range(2)]
    print(json.dumps({"resident": memory("VmRSS") - before, "peak": memory("VmHWM") - before}))
"""


@pytest.mark.parametrize("method", artifacts.METHODS)
def test_answers_do_not_depend_on_the_mode(models, method):
    x = artifacts.inputs(5)
    with Engine(models) as fast, Engine(models, EngineOptions(memory="saving")) as saving:
        expected, found = (engine.explain(x, method=method) for engine in (fast, saving))
        assert np.allclose(fast.predict(x).logits, saving.predict(x).logits, rtol=1e-6, atol=1e-6)

    assert np.allclose(found.map, expected.map, rtol=1e-5, atol=1e-6)
    assert np.allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-6)


def test_convolutions_do_not_depend_on_the_mode_either(exported):
    x = np.asarray(exported.prepared.splits.validation.inputs[:5])
    with Engine(exported.path) as fast, Engine(exported.path, EngineOptions(memory="saving")) as saving:
        expected, found = fast.explain(x), saving.explain(x)

    assert np.allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert np.allclose(found.map, expected.map, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("memory", weights.MEMORY)
def test_few_bits_are_read_from_the_packed_weights_in_both_modes(tmp_path, bits, memory):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))
    model = to_onnx(module.eval(), torch.zeros(2, 1, 8, 8))
    made = weight_only(model, dict.fromkeys(weights_of(model), bits)).model
    structure, parameters = split_parameters(made)
    with (tmp_path / "weights.cwt").open("wb") as file:
        write_weights(file, [CodedTensor(name, values) for name, values in parameters.items()])
    x = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)

    held = weights.MEMORY[memory](lambda: WeightsReader(tmp_path / "weights.cwt"))
    (found,) = Session(structure.SerializeToString(), held, 1).run({"input": x})

    assert np.allclose(found, session(made).run(None, {"input": x})[0], atol=1e-6)


def test_the_self_test_finds_a_runtime_that_reads_the_placeholder(exported, monkeypatch):
    """With the optimizers on that read the file, convolutions compute with its zeros."""
    monkeypatch.setattr(weights, "_READERS_OF_THE_FILE", [])

    with pytest.raises(Exception, match=r"Logits differ|self-test|cannot load"):
        Engine(exported.path, EngineOptions(memory="saving"))


def test_saving_holds_one_copy_for_three_sessions_and_fast_one_each(tmp_path):
    """24 MB of parameters, each mode in a process of its own."""
    path = write_cnn(tmp_path, width=256)
    dense = 4 * (256 * 27 + 256 + 512 * 256 * 9 + 512 + 1024 * 512 * 9 + 1024 + 1024 * 10)
    found = {}
    for mode in ("fast", "saving"):
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(path), mode], capture_output=True, text=True, check=True
        )
        found[mode] = json.loads(done.stdout)

    assert found["saving"]["resident"] < 1.5 * dense + 16e6
    assert found["fast"]["resident"] > found["saving"]["resident"] + 1.5 * dense
    assert found["fast"]["peak"] > found["saving"]["peak"] + dense


def test_all_explainers_can_be_opened_at_load(models):
    with Engine(models, EngineOptions(all_explainers=True)) as engine:
        assert set(engine.repository.slot("tiny").model._explainers) == set(artifacts.METHODS)
    with Engine(models) as engine:
        assert set(engine.repository.slot("tiny").model._explainers) == {artifacts.METHODS[0]}


def test_weights_changed_in_place_are_never_mixed_with_a_loaded_model(tmp_path):
    """The other artifact's weights have the same names, shapes and sizes; only their digest tells."""
    path = artifacts.write(tmp_path / "one")
    other = artifacts.write(tmp_path / "other", stored=artifacts.network(5), calibration=20)
    with Engine(path) as engine:
        before = engine.predict(artifacts.inputs(1)).logits
        (path / "weights.cwt").write_bytes((other / "weights.cwt").read_bytes())

        with pytest.raises(LoadError, match=r"weights\.cwt"):
            engine.explain(artifacts.inputs(1), method="gradient")
        assert np.array_equal(engine.predict(artifacts.inputs(1)).logits, before)


def test_an_unknown_mode_is_refused():
    with pytest.raises(InvalidRequestError, match="fast"):
        EngineOptions(memory="tiny")
