"""Which part may know which, and what importing one of them costs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(code: str, **settings) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, **settings).stdout


def test_the_import_contracts_hold():
    program = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stdout
    assert "broken" in found.stdout
    assert "0 broken" in found.stdout


@pytest.mark.parametrize("module", ["clearweight.artifact", "clearweight.service", "clearweight.cli.main"])
def test_importing_a_part_never_loads_torch(module):
    loaded = run(f"import sys, {module}; print(*sys.modules)").split()

    assert module in loaded
    assert {"torch", "clearweight.exporter"}.isdisjoint(loaded)


@pytest.mark.parametrize("arguments", [["--help"], ["export", "--help"], ["serve", "--help"]])
def test_help_works_where_torch_is_not_installed(arguments):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['clearweight', *{arguments}]\n"
        "from clearweight.cli.main import main; main()"
    )

    assert "Usage: clearweight" in run(code)


def test_a_verb_that_needs_what_is_missing_names_the_extra(tmp_path):
    (tmp_path / "r.yaml").touch()
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "sys.argv = ['clearweight', 'export', 'r.yaml', '--out', 'models']\n"
        "from clearweight.cli.main import main; main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert found.returncode == 2
    assert "pip install 'clearweight[exporter]'" in found.stderr


def test_clearweight_is_a_namespace_without_a_file_of_its_own():
    import clearweight

    assert clearweight.__file__ is None
    assert not list(ROOT.glob("*/clearweight/__init__.py"))
    assert {Path(p).parent.name for p in clearweight.__path__} >= {"artifact", "exporter", "service", "cli"}
