"""docs/recipes.md names every setting of every step and term, and its defaults are those of the code."""

import re
from pathlib import Path

import pytest
import yaml

from clearweight.exporter.compress import METHODS
from clearweight.exporter.objective import TERMS

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
SAID = re.compile(r"`(\w+: [^`]+)`")


def row(name, heading):
    return PAGE.split(heading)[1].split(f"\n| `{name}` |")[1].split("\n")[0]


def plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_of_a_step_is_named(name):
    settings = set(METHODS[name].config_type.model_fields) - {"method"}

    assert settings <= set(re.findall(r"`(\w+)`", row(name, "## Steps")))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "half_precision"])
def test_defaults_of_a_step_are_those_of_the_code(name):
    stated = [yaml.safe_load(text) for text in SAID.findall(row(name, "Where nothing is said"))]

    assert stated
    fields = METHODS[name].config_type.model_fields
    for default in stated:
        ((setting, value),) = default.items()
        assert plain(fields[setting].get_default()) == value, setting


@pytest.mark.parametrize("name", TERMS)
def test_settings_and_defaults_of_a_term_are_those_of_the_code(name):
    fields = {key: field for key, field in TERMS[name].config_type.model_fields.items() if key != "term"}
    line = PAGE.split("\n| terms |")[1].split("\n")[0]
    stated = {key: value for text in SAID.findall(line) for key, value in yaml.safe_load(text).items()}

    assert set(fields) == set(
        re.findall(r"`(\w+)`", row(name, "## Terms").rpartition("|")[0].rpartition("|")[2])
    )
    assert {key: stated[key] for key, field in fields.items() if not field.is_required()} == {
        key: field.get_default() for key, field in fields.items() if not field.is_required()
    }
