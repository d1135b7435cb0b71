"""The examples in docstrings give what they show."""

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import clearweight

OPTIONAL = {"clearweight.exporter.ray_trials": "ray"}
"""Modules that need what `make setup` does not install."""


def modules() -> list[str]:
    names = [info.name for info in pkgutil.walk_packages(clearweight.__path__, "clearweight.")]
    missing = {name for name, needed in OPTIONAL.items() if importlib.util.find_spec(needed) is None}
    return [name for name in names if ".rpc.generated" not in name and name not in missing]


@pytest.mark.parametrize("name", modules())
def test_examples_hold(name):
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)

    assert found.failed == 0


def test_there_are_examples_at_all():
    finder = doctest.DocTestFinder()
    count = sum(
        bool(test.examples) for name in modules() for test in finder.find(importlib.import_module(name))
    )

    assert count >= 5
