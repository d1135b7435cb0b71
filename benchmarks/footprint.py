"""What our service and its peers take before they do anything: image, memory, and time to the first answer.

``image_mb`` is ours as ``make test-container`` builds it. No peer's own image is taken: theirs is the same base with
the packages of its virtual environment (compiled as pip leaves them, pip itself left out), so that operating system
and interpreter weigh the same for all; what their makers' images hold beside that is not counted. The base is the
stand-in that ``make test-container`` makes from Debian packages.

Cold start and memory are those of ``serving``, by the same code: from the start of the process to the first correct
answer, and the process with its descendants half a second later, all on one core, five starts each in turn.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.peers import installed
from benchmarks.row import MissingDataError, Row
from benchmarks.serving import FULL, OURS, QUICK, contenders, starts

BENCH = "footprint"
BASE, IMAGE = "localhost/python:3.11-slim-bookworm", "localhost/clearweight:test"
_NOT_NEEDED = ("pip", "setuptools", "pkg_resources", "wheel", "_distutils_hack")


def image_bytes(name: str) -> int:
    """Return the size of an image in podman's storage.

    Raises
    ------
    MissingDataError
        It is not there, or podman is not.
    """
    command = ["podman", "image", "inspect", name]
    found = (
        subprocess.run(command, capture_output=True, text=True, check=False)
        if shutil.which("podman")
        else None
    )
    if found is None or found.returncode:
        raise MissingDataError(f"There is no image {name}: run make test-container first.")
    return int(json.loads(found.stdout)[0]["Size"])


def package_bytes(environment: Path) -> int:
    """Return what the packages of a virtual environment take, without what only installs them."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    kept = (path for path in packages.iterdir() if path.name.partition("-")[0] not in _NOT_NEEDED)
    files = (file for path in kept for file in (path.rglob("*") if path.is_dir() else (path,)))
    return sum(file.lstat().st_size for file in files if file.is_file())


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Weigh, then start all of them in turn."""
    del data
    base = image_bytes(BASE)
    yield Row(BENCH, "base", "image_mb", base / 1e6, "MB")
    yield Row(BENCH, OURS, "image_mb", image_bytes(IMAGE) / 1e6, "MB")
    for name, peer in installed().items():
        yield Row(BENCH, name, "image_mb", (base + package_bytes(peer.environment)) / 1e6, "MB")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for row in starts(contenders(folder), folder, QUICK if quick else FULL):
            yield replace(row, bench=BENCH)
