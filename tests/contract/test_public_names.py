"""What a package lists is what can be imported from it, and nothing else is offered."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import clearweight

GENERATED = "clearweight.service.rpc.generated"


def packages() -> list[str]:
    found = pkgutil.walk_packages(clearweight.__path__, "clearweight.")
    return [info.name for info in found if info.ispkg and info.name != GENERATED]


def public(module: ModuleType) -> set[str]:
    """Return what a reader would take for public: names without underscore that are no modules."""
    borrowed = {"Any", "Callable"}  # what annotations in an `__init__.py` need
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name not in borrowed
    }


@pytest.mark.parametrize("name", packages())
def test_the_listed_names_exist_and_are_listed_once(name):
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])

    assert len(set(listed)) == len(listed)
    assert all(hasattr(module, entry) for entry in listed)


PORTIONS = ("clearweight.artifact", "clearweight.exporter", "clearweight.service", "clearweight.cli")


@pytest.mark.parametrize("name", PORTIONS)
def test_a_portion_lists_everything_it_imports(name):
    module = importlib.import_module(name)
    listed = {n for n in module.__all__ if not isinstance(getattr(module, n), ModuleType)}

    assert public(module) == listed
