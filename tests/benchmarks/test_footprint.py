"""Sizes count what is there and nothing else."""

import pytest

from benchmarks.footprint import image_bytes, package_bytes
from benchmarks.row import MissingDataError


def test_packages_are_counted_without_what_only_installs_them(tmp_path):
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, size in {
        "served/core.so": 1000,
        "served/__pycache__/core.pyc": 200,
        "served-1.0.dist-info/METADATA": 30,
        "single.py": 4,
        "pip/_internal/main.py": 5000,
        "setuptools-65.5.0.dist-info/METADATA": 5000,
    }.items():
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))

    assert package_bytes(tmp_path) == 1234


def test_an_image_that_is_not_there_is_named_with_how_to_make_it():
    with pytest.raises(MissingDataError, match=r"localhost/nothing:never.*make test-container"):
        image_bytes("localhost/nothing:never")
