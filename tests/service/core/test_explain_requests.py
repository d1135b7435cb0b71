"""What a request may choose of an explanation, checked on graphs that show what they were given."""

from dataclasses import replace

import numpy as np
import pytest

from clearweight.artifact import Preprocessing, explain_inputs
from clearweight.service import Engine, EngineOptions, InvalidRequestError, Limits, LoadError, TooLargeError
from tests.service import artifacts

X = artifacts.inputs(3)
SETTINGS = {"grid": 3.0, "keep": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return artifacts.write(tmp_path_factory.mktemp("probes"), probes=tuple(artifacts.PROBES))


@pytest.fixture(scope="module")
def engine(folder):
    with Engine(folder) as opened:
        yield opened


def expected(method, x=X, *, steps=artifacts.PROBE_STEPS, seed=0, baseline=None):
    names = artifacts.PROBES[method]
    further = explain_inputs(names, x.shape, steps=steps, seed=seed, settings=SETTINGS, baseline=baseline)
    return artifacts.probe_map(method, x, further)


@pytest.mark.parametrize("method", artifacts.PROBES)
def test_every_further_input_is_made_as_the_format_says(engine, method):
    found = engine.explain(X, method=method)

    assert np.allclose(found.map, expected(method), atol=1e-4)
    assert found.parameters["steps"] == artifacts.PROBE_STEPS
    assert found.parameters["seed"] == 0
    assert found.parameters["gradient_ste"] is (method == "probe_noise")


@pytest.mark.parametrize("method", ["probe_noise", "probe_masks"])
def test_a_seed_chooses_the_draws_and_is_echoed(engine, method):
    one, again, other = (engine.explain(X, method=method, seed=seed) for seed in (5, 5, 6))

    assert np.array_equal(one.map, again.map)
    assert not np.allclose(one.map, other.map)
    assert np.allclose(one.map, expected(method, seed=5), atol=1e-4)
    assert (one.parameters["seed"], other.parameters["seed"]) == (5, 6)


@pytest.mark.parametrize("method", ["probe_path", "probe_noise", "probe_masks"])
def test_steps_choose_how_many_there_are_and_are_echoed(engine, method):
    found = engine.explain(X, method=method, steps=3)

    assert np.allclose(found.map, expected(method, steps=3), atol=1e-4)
    assert found.parameters["steps"] == 3
    assert np.allclose(engine.explain(X, method=method).map, expected(method), atol=1e-4)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_baseline_of_the_callers_own_is_one_row_or_as_many_as_the_input(engine, rows):
    baseline = artifacts.inputs(rows, seed=9)

    found = engine.explain(X, method="probe_path", baseline=baseline)

    assert np.allclose(found.map, expected("probe_path", baseline=baseline), atol=1e-5)
    assert found.parameters["baseline"] == "input"


def test_a_baseline_by_name_is_echoed_and_zero_is_the_default(engine):
    for asked, echoed in ((None, "zero"), ("zero", "zero"), ("black", "black")):
        found = engine.explain(X, method="probe_path", baseline=asked)

        assert found.parameters["baseline"] == echoed
        assert np.allclose(found.map, expected("probe_path"), atol=1e-5)


def test_black_is_zero_before_preprocessing_and_raw_baselines_are_preprocessed(tmp_path):
    centred = Preprocessing("UINT8", 1 / 100, mean=(0.25,))
    artifacts.write(tmp_path, preprocessing=centred, probes=("probe_baseline",), calibration=20)
    raw = np.full((1, *artifacts.SHAPE), 50, np.uint8)
    # The canaries' answers were computed without the mean, so the artifact's self-test is not asked for.
    with Engine(tmp_path, strict=False) as engine:
        model = engine.repository.slot("tiny").model
        model.integrity = replace(model.integrity, state="passed")
        zero, black, own = (
            engine.explain(X, method="probe_baseline", baseline=b).map for b in ("zero", "black", raw)
        )

    assert np.allclose(zero, X)
    assert np.allclose(black, X + 0.25, atol=1e-6)
    assert np.allclose(own, X - (0.5 - 0.25), atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"method": "gradient", "steps": 2}, "single pass: steps is 2, expected 1"),
        ({"method": "probe_baseline", "steps": 2}, "6 fixed steps: steps is 2, expected 6"),
        ({"method": "probe_path", "steps": 0}, "'steps' is 0, expected an integer from 1"),
        ({"method": "probe_path", "seed": -1}, "'seed' is -1"),
        ({"method": "probe_path", "baseline": "blur"}, "'blur', expected 'zero', 'black'"),
        ({"method": "probe_path", "baseline": "input"}, "no input 'baseline'"),
        ({"method": "gradient", "baseline": "black"}, "Methods with a choice: probe_baseline, probe_path"),
        ({"method": "gradient", "baseline": X}, "takes no input 'baseline'. Methods that do: probe_baseline"),
        (
            {"method": "probe_path", "baseline": X[:2]},
            r"'baseline' has shape \[2, 1, 8, 8\], expected \[3, 1",
        ),
        ({"method": "probe_path", "baseline": X[:, 0]}, "'baseline' has shape"),
        ({"method": "probe_path", "baseline": X.astype(np.float64)}, "'baseline' has datatype FP64"),
    ],
)
def test_what_a_method_does_not_take_is_refused_with_what_it_does(engine, asked, text):
    with pytest.raises(InvalidRequestError, match=text):
        engine.explain(X, **asked)


def test_the_fixed_number_of_steps_may_be_named(engine):
    assert engine.explain(X, method="probe_baseline", steps=6).parameters["steps"] == 6
    assert engine.explain(X, method="gradient", steps=1).parameters["steps"] == 1


@pytest.mark.parametrize(
    ("limits", "asked", "text"),
    [
        (
            Limits(explain_rows=20),
            {"method": "probe_path", "steps": 7},
            "3 rows x 7 steps = 21 rows, the limit of one request is 20. What fits: at most 2 rows at 7 steps, or at",
        ),
        (
            Limits(explain_rows=10),
            {"method": "probe_baseline"},
            "3 rows x 6 steps = 18 rows, the limit of one request is 10. What fits: at most 1 rows at 6 steps.",
        ),
        (Limits(explain_rows=2), {"method": "probe_baseline"}, "No batch fits"),
        (Limits(explain_rows=2), {"method": "gradient"}, "What fits: at most 2 rows at 1 steps."),
        (
            Limits(elements=1000),
            {"method": "probe_noise"},
            "1152 elements of 3 rows and 6 steps, the limit is 1000. What fits: at most 2 rows at 6 steps, or at most",
        ),
        (Limits(steps=5), {"method": "probe_masks"}, "'steps' is 6, expected an integer from 1 to 5"),
    ],
)
def test_what_costs_too_much_is_refused_with_what_would_fit(folder, limits, asked, text):
    with (
        Engine(folder, EngineOptions(limits=limits)) as engine,
        pytest.raises((TooLargeError, InvalidRequestError)) as refused,
    ):
        engine.explain(X, **asked)

    assert text in str(refused.value)


def test_what_is_said_to_fit_fits(folder):
    with Engine(folder, EngineOptions(limits=Limits(explain_rows=20, elements=1000))) as engine:
        engine.explain(X[:2], method="probe_path", steps=7)
        engine.explain(X, method="probe_path", steps=5)
        engine.explain(X[:2], method="probe_noise")
        engine.explain(X, method="probe_masks")


def test_the_estimate_counts_rows_and_steps(engine):
    model = engine.repository.slot("tiny").model
    engine.explain(X, method="probe_noise")

    one = model.seconds(1, "probe_noise")

    assert 0 < one < 1
    assert model.seconds(2, "probe_noise", 50) == pytest.approx(100 * one)


def test_a_graph_that_takes_something_else_than_stated_is_not_run(tmp_path):
    def forget(manifest):
        entry = replace(manifest.explainers["probe_path"], inputs=("baseline",))
        return replace(manifest, explainers=manifest.explainers | {"probe_path": entry})

    artifacts.write(tmp_path, probes=("probe_path",), change=forget, calibration=20)
    with Engine(tmp_path) as engine, pytest.raises(LoadError, match="path_weight"):
        engine.explain(X, method="probe_path")


def test_a_default_explainer_with_further_inputs_is_tested_and_compared_with_the_manifests_own(tmp_path):
    def noisy(manifest):
        return replace(manifest, default_explainer="probe_noise")

    artifacts.write(tmp_path, probes=("probe_noise",), change=noisy, calibration=20)
    with Engine(tmp_path, strict=False) as engine:
        model = engine.repository.slot("tiny").model
        maps, _ = model.explain_default({"input": X}, np.full(3, -1))

        assert np.allclose(maps, expected("probe_noise"), atol=1e-4)
        assert "map" in model.integrity.reason  # the stored maps are another explainer's


def test_metadata_describe_every_explainer(engine):
    import json

    found = engine.metadata("tiny").properties
    path, noise, fixed = (
        json.loads(found[f"explainer.{m}"]) for m in ("probe_path", "probe_noise", "probe_baseline")
    )

    assert path["inputs"] == ["baseline", "path", "path_weight"]
    assert (path["steps"], path["steps_fixed"], fixed["steps_fixed"]) == (6, False, True)
    assert (path["baselines"], noise["baselines"]) == (["zero", "black", "input"], ["none"])
    assert (path["seed"], noise["seed"]) == (False, True)
    assert json.loads(found["explainer.probe_masks"])["settings"] == SETTINGS
    assert (noise["gradient_ste"], path["gradient_ste"]) == (True, False)
    assert {"sign", "units", "resolution", "layer", "map_shape", "completeness"} <= set(path)
    assert set(engine.metadata("tiny").properties["explainers"].split(",")) == {
        name.removeprefix("explainer.") for name in found if name.startswith("explainer.")
    }
