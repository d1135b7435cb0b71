"""Recipes: a mistake is answered by a sentence that names the key."""

from pathlib import Path

import pytest
import yaml

from clearweight.exporter import RecipeError
from clearweight.exporter.compress import METHODS
from clearweight.exporter.objective import TERMS
from clearweight.exporter.recipe import load_recipe, parse_recipe

FINE_TUNE = {"epochs": 1}


def content(**changes):
    base = {
        "name": "net",
        "model": {"callable": "models:net", "input_shape": [1, 8, 8]},
        "data": {"source": {"npz": "data.npz"}},
        "objective": {"terms": [{"task": {}}]},
        "steps": [{"prune": {"density": 0.5, "fine_tune": FINE_TUNE}}],
    }
    return base | changes


def parse(**changes):
    return parse_recipe(yaml.safe_dump(content(**changes)), "net.yaml")


def test_a_small_recipe_has_the_documented_defaults():
    recipe = parse()

    assert (recipe.version, recipe.seed, recipe.threads, recipe.accelerator) == ("1", 0, 1, "cpu")
    assert recipe.default_explainer == "input_x_gradient"
    assert recipe.canaries.source == "calibration"
    assert recipe.canaries.count == 16
    assert recipe.fidelity.retrain_floor is False


def test_steps_and_terms_are_built_by_their_literature_names():
    recipe = parse(
        steps=[
            {"prune": {"density": {"a.weight": 0.1}, "fine_tune": FINE_TUNE}},
            {"share_weights": {"bits": 4, "fine_tune": FINE_TUNE}},
            {"half_precision": None},
        ],
        objective={"terms": [{"task": {"weight": 0.5}}, {"input_matching": {}}]},
    )

    assert [type(step) for step in recipe.steps] == [
        METHODS[name].config_type for name in ("prune", "share_weights", "half_precision")
    ]
    assert [type(term) for term in recipe.objective.terms] == [
        TERMS[name].config_type for name in ("task", "input_matching")
    ]
    assert recipe.objective.terms[0].weight == 0.5


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({"sede": 1}, ["Unknown key 'sede' in the recipe.", "Known keys: name, version, seed"]),
        (
            {"steps": [{"prune": {"sparsty": 0.5, "density": 0.1, "fine_tune": FINE_TUNE}}]},
            ["Unknown key 'sparsty' in prune.", "Known keys: method, density, criterion"],
        ),
        (
            {"steps": [{"prune": {"density": 0.5, "fine_tune": {"epochs": 1, "rate": 1}}}]},
            ["Unknown key 'rate' in prune.fine_tune.", "Known keys: epochs, learning_rate"],
        ),
        ({"steps": [{"prune": {"density": 0.5}}]}, ["Key 'prune.fine_tune' is missing."]),
        (
            {"steps": [{"shrink": {}}]},
            ["steps.0", "unknown method 'shrink'", "known: ", ", prune, ", ", share_weights, "],
        ),
        ({"steps": ["prune"]}, ["steps.0", "expected one method as 'name: settings', found 'prune'"]),
        ({"steps": []}, ["steps"]),
        ({"objective": {"terms": [{"love": {}}]}}, ["objective.terms.0", "unknown term 'love'"]),
        ({"seed": -1}, ["seed", "found -1"]),
        ({"name": "../up"}, ["name", "found '../up'"]),
        ({"version": "one"}, ["version", "found 'one'"]),
        ({"data": {"source": {}}}, ["data.source", "exactly one of npz, idx, image_folder, callable"]),
        (
            {"data": {"source": {"npz": "a", "callable": "a:b"}}},
            ["data.source", "found ['npz', 'callable']"],
        ),
        ({"data": {"source": {"idx": "a"}}}, ["data.source", "idx and idx_labels belong together"]),
        ({"default_explainer": "lime"}, ["default_explainer 'lime' is not among"]),
        ({"explainers": ["gradient", "gradient"]}, ["explainers", "the names are not distinct"]),
        ({"canaries": {"source": "file"}}, ["canaries", "'file' belong together"]),
        ({"model": {"callable": "a:b"}}, ["Key 'model.input_shape' is missing."]),
    ],
)
def test_a_wrong_key_or_value_is_named(changes, sentences):
    with pytest.raises(RecipeError) as caught:
        parse(**changes)

    for sentence in ("Recipe 'net.yaml'", *sentences):
        assert sentence in str(caught.value)


def test_two_mistakes_are_both_told():
    with pytest.raises(RecipeError, match=r"Unknown key 'sede'.*threads"):
        parse(threads=0, sede=1)


@pytest.mark.parametrize(
    ("text", "match"), [("[1, 2]", "holds list"), ("a: [", "is not YAML"), ("", "NoneType")]
)
def test_what_is_no_mapping_is_refused(text, match):
    with pytest.raises(RecipeError, match=match):
        parse_recipe(text, "net.yaml")


def test_yaml_cannot_build_python_objects():
    with pytest.raises(RecipeError, match="is not YAML"):
        parse_recipe("name: !!python/object/apply:os.getcwd []", "net.yaml")


def test_paths_are_taken_from_the_recipes_folder(tmp_path):
    (tmp_path / "net.yaml").write_text(
        yaml.safe_dump(
            content(
                model={"callable": "a:b", "input_shape": [4], "weights": "w.safetensors"},
                data={"source": {"npz": "data/x.npz"}, "test": {"npz": "/elsewhere/y.npz"}},
            )
        )
    )

    recipe = load_recipe(tmp_path / "net.yaml")

    assert recipe.model.weights == tmp_path / "w.safetensors"
    assert recipe.data.source.npz == tmp_path / "data/x.npz"
    assert recipe.data.test is not None
    assert recipe.data.test.npz == Path("/elsewhere/y.npz")


def test_a_missing_recipe_is_a_recipe_error(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", sorted(Path("recipes").rglob("*.yaml")), ids=str)
def test_every_recipe_that_ships_is_valid(path):
    assert load_recipe(path).name
