"""The wheel carries all four portions and lives beside a project that has packages of the same names."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


def test_it_holds_every_source_file_and_nothing_else(wheel):
    names = {n for n in zipfile.ZipFile(wheel).namelist() if not n.startswith("clearweight-")}
    ours = {
        str(path.relative_to(ROOT / part))
        for part in ("artifact", "exporter", "service", "cli", "client")
        for path in (ROOT / part / "clearweight").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert names == ours
    assert "clearweight/__init__.py" not in names
    for portion in ("artifact", "exporter", "service", "cli", "client"):
        assert f"clearweight/{portion}/__init__.py" in names
    assert "clearweight/cli/digits.yaml" in names


USERS = """
import sys
sys.path = [p for p in sys.path if "site-packages" in p or "lib/python" in p]  # no editable sources
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
sys.path.insert(0, {installed!r})
from clearweight.exporter.source import load_callable
import clearweight.service
assert clearweight.service.__file__.startswith({installed!r}), clearweight.service.__file__
assert load_callable("service.model:net")() == "the user's own"
assert load_callable("exporter:net")() == "the user's exporter"
assert sys.path[-1] == {project!r}
import service
assert service.__file__.startswith({project!r})
from clearweight.cli.main import app
from typer.testing import CliRunner
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
print("beside each other")
"""


def test_it_works_beside_a_project_with_its_own_service_package(wheel, tmp_path):
    installed, project = tmp_path / "installed", tmp_path / "project"
    zipfile.ZipFile(wheel).extractall(installed)
    (project / "service").mkdir(parents=True)
    (project / "service" / "__init__.py").touch()
    (project / "service" / "model.py").write_text('def net(): return "the user\'s own"\n')
    (project / "exporter.py").write_text('def net(): return "the user\'s exporter"\n')
    code = USERS.format(installed=str(installed), project=str(project))

    found = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=project, capture_output=True, text=True, check=False
    )

    assert found.stdout == "beside each other\n", found.stderr
