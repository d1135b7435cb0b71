"""What holds for every compression method: the table is complete and the names are one."""

from pathlib import Path

import clearweight.exporter.compress as family
from clearweight.exporter.compress import METHODS

MACHINERY = {"__init__", "allocation", "constraint", "rate_quantizer", "saliency", "step", "straight_through"}


def test_every_module_is_a_method_of_its_name():
    folder = Path(family.__file__).parent

    assert {p.stem for p in folder.glob("*.py")} - MACHINERY == set(METHODS)


def test_a_methods_name_is_that_of_its_config():
    for name, method in METHODS.items():
        assert method.name == name
        assert method.config_type.model_fields["method"].default == name
