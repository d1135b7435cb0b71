from dataclasses import replace

import numpy as np
import pytest

from clearweight.artifact import Preprocessing
from clearweight.service import (
    Engine,
    EngineOptions,
    InvalidRequestError,
    LoadError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from clearweight.service.core.repository import version_key
from tests.service import artifacts


@pytest.fixture
def engine(models):
    with Engine(models / "tiny" / "10") as opened:
        yield opened


@pytest.fixture(scope="module")
def oracle():
    return artifacts.pruned(artifacts.network(), 0.2)


def test_predictions_equal_the_oracle(engine, oracle):
    x = artifacts.inputs(6)

    found = engine.predict(x)

    assert (found.model, found.version) == ("tiny", "10")
    assert np.allclose(found.logits, oracle.logits(x), atol=1e-6)


@pytest.mark.parametrize("method", artifacts.METHODS)
def test_maps_equal_the_oracle_at_two_targets_and_differ_between_them(engine, oracle, method):
    x = artifacts.inputs(2)
    maps = {target: engine.explain(x, target=target, method=method).map for target in (0, 3)}

    for target, found in maps.items():
        assert np.allclose(found, oracle.explain(x, np.full(2, target), method), atol=1e-6)
    assert not np.allclose(maps[0], maps[3])
    assert not np.allclose(maps[0][0], maps[0][1])


def test_the_default_target_is_the_predicted_class(engine, oracle):
    x = artifacts.inputs(5)

    found = engine.explain(x)

    assert np.array_equal(found.target, oracle.logits(x).argmax(axis=1))
    assert np.array_equal(found.logits, engine.predict(x).logits)
    assert np.array_equal(engine.explain(x, target=found.target).map, found.map)
    assert np.abs(found.completeness_error).max() < 1e-5


def test_an_explainer_is_loaded_on_first_use_and_never_in_the_event_loop(engine):
    model = engine.repository.slot("tiny").model

    assert model.seconds(1, "gradient") == np.inf
    engine.explain(artifacts.inputs(1), method="gradient")
    assert model.seconds(1, "gradient") < 1
    assert model.seconds(10) == pytest.approx(10 * model.seconds(1))


def test_an_array_may_name_a_class_per_row(engine, oracle):
    x, target = artifacts.inputs(3), np.array([0, 4, -1])

    found = engine.explain(x, target=target)

    assert found.target.tolist() == [0, 4, oracle.logits(x)[2].argmax()]
    assert np.allclose(found.map, oracle.explain(x, found.target), atol=1e-6)


@pytest.mark.parametrize(
    "target", [-2, 5, np.array([0, 5]), np.array([0, -2]), np.array([0]), np.array([[0, 1]])]
)
def test_targets_out_of_range_or_shape_are_refused(engine, target):
    with pytest.raises(InvalidRequestError):
        engine.explain(artifacts.inputs(2), target=target)


def test_rows_in_one_batch_equal_rows_alone(engine):
    x = artifacts.inputs(4)
    together = engine.explain(x)

    for row in range(4):
        alone = engine.explain(x[row : row + 1])
        assert np.allclose(alone.logits[0], together.logits[row], atol=1e-6)
        assert np.allclose(alone.map[0], together.map[row], atol=1e-6)


def test_an_unknown_method_lists_the_known_ones(engine):
    with pytest.raises(InvalidRequestError, match="gradient, input_x_gradient"):
        engine.explain(artifacts.inputs(1), method="lime")


def test_without_explainers_explain_is_unsupported_and_predict_works(tmp_path):
    artifacts.write(tmp_path, explainers=())
    with Engine(tmp_path) as engine:
        assert engine.predict(artifacts.inputs(1)).logits.shape == (1, 5)
        with pytest.raises(UnsupportedError):
            engine.explain(artifacts.inputs(1))
        assert engine.health("tiny").fidelity.state == "not_measured"


def test_the_highest_version_is_current(models):
    with Engine(models) as engine:
        assert engine.predict(artifacts.inputs(1)).version == "10"
        assert engine.predict(artifacts.inputs(1), version="9").version == "9"
        assert engine.metadata("tiny").versions == ("9", "10")


def test_versions_order_as_people_read_them():
    versions = ["1.10", "1.2", "10", "9", "1.2-rc", "2"]

    assert sorted(versions, key=version_key) == ["1.2", "1.2-rc", "1.10", "2", "9", "10"]


def test_unknown_models_versions_and_folders_are_not_found(engine, tmp_path):
    for asked in ({"model": "other"}, {"version": "11"}):
        with pytest.raises(NotFoundError):
            engine.predict(artifacts.inputs(1), **asked)
    with pytest.raises(NotFoundError):
        Engine(tmp_path)


def test_several_models_must_be_named(tmp_path):
    artifacts.write(tmp_path, name="one")
    artifacts.write(tmp_path, name="two")
    with Engine(tmp_path) as engine:
        with pytest.raises(InvalidRequestError, match="one, two"):
            engine.predict(artifacts.inputs(1))
        assert engine.predict(artifacts.inputs(1), model="two").model == "two"


def test_a_damaged_artifact_harms_no_other_and_says_why(tmp_path):
    artifacts.write(tmp_path, version="1")
    broken = artifacts.write(tmp_path, version="2")
    (broken / "weights.cwt").write_bytes(b"\0" * (broken / "weights.cwt").stat().st_size)

    with Engine(tmp_path) as engine:
        assert engine.predict(artifacts.inputs(1)).version == "1"
        assert engine.ready
        assert "weights.cwt" in engine.health("tiny", "2").reason
        with pytest.raises(UnavailableError, match=r"weights\.cwt"):
            engine.predict(artifacts.inputs(1), version="2")


def test_when_nothing_loads_the_constructor_says_why(tmp_path):
    broken = artifacts.write(tmp_path)
    (broken / "predict.onnx").unlink()

    with pytest.raises(LoadError, match=r"predict\.onnx"):
        Engine(tmp_path)
    with Engine(tmp_path, strict=False) as engine:
        assert not engine.ready


def test_graphs_that_do_not_fit_the_manifest_or_the_canaries_are_load_errors(tmp_path, monkeypatch):
    def rename(manifest):
        return replace(manifest, outputs=(replace(manifest.outputs[0], name="scores"),))

    artifacts.write(tmp_path / "renamed", change=rename)
    with pytest.raises(LoadError, match="scores"):
        Engine(tmp_path / "renamed")
    stored = replace(artifacts.network(), w1=np.zeros((24, 63), np.float32))
    artifacts.write(tmp_path / "shaped", stored=stored)
    with pytest.raises(LoadError, match=r"predict\.onnx"):
        Engine(tmp_path / "shaped")
    artifacts.write(tmp_path / "whole")
    monkeypatch.setattr("clearweight.service.core.model.check_integrity", lambda *_: 1 / 0)
    with pytest.raises(LoadError, match="self-test"):
        Engine(tmp_path / "whole")


def test_raw_inputs_of_a_type_of_their_own_are_preprocessed_by_it(tmp_path):
    artifacts.write(tmp_path, preprocessing=Preprocessing("UINT8", 1 / 100))
    raw = np.clip(artifacts.inputs(3) * 100, 0, 255).astype(np.uint8)
    with Engine(tmp_path) as engine:
        ready = raw.astype(np.float32) * np.float32(1 / 100)

        assert np.array_equal(engine.predict(raw).logits, engine.predict(ready).logits)
        assert np.array_equal(engine.explain(raw).map, engine.explain(ready).map)


def test_raw_inputs_of_the_models_own_type_are_preprocessed_on_request(tmp_path):
    artifacts.write(
        tmp_path, preprocessing=Preprocessing("FP32", 1 / 8), probes=("probe_path",), calibration=20
    )
    ready = artifacts.inputs(3)
    raw, baseline = ready * 8, artifacts.inputs(1, seed=3)
    path = {"method": "probe_path"}
    with Engine(tmp_path) as engine:
        direct, found = engine.predict(ready), engine.predict(raw, preprocess=True)

        assert np.array_equal(found.logits, direct.logits)
        assert not np.array_equal(engine.predict(raw).logits, direct.logits)
        assert np.array_equal(engine.explain(raw, preprocess=True).map, engine.explain(ready).map)
        compared = engine.explain(raw, baseline=baseline * 8, preprocess=True, **path)
        assert np.array_equal(compared.map, engine.explain(ready, baseline=baseline, **path).map)


def test_wrong_arrays_are_refused_in_process_too(engine):
    for bad in (np.zeros((1, 64), np.float32), np.zeros((1, 1, 8, 8)), np.zeros((0, 1, 8, 8), np.float32)):
        with pytest.raises(InvalidRequestError):
            engine.predict(bad)


@pytest.mark.parametrize("bad", [{"low_fidelity": "ignore"}, {"shadow": 1.5}, {"shadow_cpu_share": 0.0}])
def test_options_outside_their_range_are_refused(bad):
    with pytest.raises(InvalidRequestError):
        EngineOptions(**bad)
