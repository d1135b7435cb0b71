"""The demo: its recipe, its verdict, and (slow) the whole of it."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from clearweight.cli.demo import Live, next_steps, pictures, results, without_matching, write_recipe
from clearweight.exporter.recipe import load_recipe

HEALTH = {
    "fidelity": {"state": "passed"},
    "integrity": {"state": "passed"},
    "drift": {"state": "normal", "compared": 9},
}
GOOD = Live(HEALTH, {"infer": 0.0, "explain": 0.0}, "passed")


def text_of(*things):
    console = Console(width=200, record=True, file=io.StringIO())
    for thing in things:
        console.print(thing)
    return console.export_text()


def test_the_recipe_that_comes_along_is_valid_and_matches(tmp_path):
    recipe = load_recipe(write_recipe(tmp_path / "demo"))

    assert [t.term for t in recipe.objective.terms] == ["task", "distillation", "input_matching"]
    assert recipe.fidelity.retrain_floor


def test_the_unmatched_twin_differs_in_the_objective_alone(tmp_path):
    recipe = load_recipe(write_recipe(tmp_path))
    twin = without_matching(recipe)

    assert [t.term for t in twin.objective.terms] == ["task"]
    assert twin.steps == recipe.steps
    assert twin.reference == recipe.reference
    assert twin.seed == recipe.seed


@pytest.mark.parametrize(
    ("question", "state"), [("fidelity", "failed"), ("integrity", "failed"), ("drift", "alarm")]
)
def test_a_bad_answer_to_any_question_is_not_sound(question, state):
    assert GOOD.sound
    bad = HEALTH | {question: HEALTH[question] | {"state": state}}
    assert not dataclasses.replace(GOOD, health=bad).sound


def test_transports_that_disagree_and_a_failed_verify_are_not_sound():
    assert not dataclasses.replace(GOOD, differences={"infer": 1e-6}).sound
    assert not dataclasses.replace(GOOD, verified="failed").sound


def test_the_table_shows_the_figures_of_both(exported):
    text = text_of(results(exported, exported, GOOD))

    book = exported.manifest.ledger
    for words in (
        "unmatched",
        "matched",
        f"{book.packed_bytes:,}",
        f"{book.reference_bytes:,}",
        "drift",
        "normal",
    ):
        assert words in text


def test_image_and_maps_stand_side_by_side(exported):
    rows = text_of(pictures(exported)).splitlines()

    assert rows[0].split() == ["image", "reference", "compressed"]
    assert len(rows) == 9


def test_the_python_lines_run_as_they_stand(exported, models, capsys):
    lines = next_steps(exported, models.parent)
    start = next(i for i, line in enumerate(lines) if "in Python" in line) + 1

    exec("\n".join(line.strip() for line in lines[start:]), {})

    printed = capsys.readouterr().out
    assert re.match(r"\[\d\] \[\[", printed)


@pytest.mark.slow
def test_the_whole_demo_is_sound(command, tmp_path):
    found = command("demo", "--out", tmp_path)

    assert found.exit_code == 0
    assert "largest difference 0" in found.stdout
    assert (tmp_path / "models" / "digits" / "1" / "manifest.json").is_file()
