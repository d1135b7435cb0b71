"""What the documents show works: their code runs, their commands, verbs, options and files exist."""

import io
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clearweight.cli import VERBS
from clearweight.cli.main import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "examples/**/*.md", "docs/*.md", "artifact/**/*.md", "helm/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
PARTS = ("artifact", "exporter", "service", "cli", "client")


def blocks(path: Path, *kinds: str) -> list[str]:
    return [body for kind, body in FENCE.findall(path.read_text(encoding="utf-8")) if kind in kinds]


def headings(path: Path) -> set[str]:
    """Return the names by which GitHub links to the headings of a page."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def commands(path: Path) -> list[list[str]]:
    """Return the command lines of all console blocks, continued lines joined, comments gone."""
    text = "\n".join(blocks(path, "console", "sh", "bash")).replace("\\\n", " ")
    lines = [line.removeprefix("$ ").split(" # ")[0].split("  #")[0].split() for line in text.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_that_is_shown_exists(path):
    targets = set(
        re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for line in commands(path):
        if line[0] == "make":
            assert set(line[1:]) <= targets, line
        if line[0] == "clearweight" and line[1:2] and not line[1].startswith("-"):
            assert line[1] in VERBS, line
            text = CliRunner().invoke(app, [line[1], "--help"]).stdout
            for option in (word for word in line if word.startswith("--")):
                assert option.partition("=")[0] in text, line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_linked_file_exists(path):
    for target, _ in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_linked_heading_exists(path):
    for target, heading in LINK.findall(path.read_text(encoding="utf-8")):
        page = path.parent / target if target else path
        if heading and page.suffix == ".md":
            assert heading in headings(page), f"{target}#{heading}"


def test_the_readmes_python_runs_on_the_demos_artifact(models, tmp_path, monkeypatch):
    """On a smaller network of the same name and shape, so the shapes are compared and the figures are not."""
    shutil.copytree(models, tmp_path / "build" / "demo" / "models")
    monkeypatch.chdir(tmp_path)
    shown = blocks(ROOT / "README.md", "python")

    assert shown
    for code in shown:
        out = io.StringIO()
        with redirect_stdout(out):
            exec(compile(code, "README.md", "exec"), {})
        expected = re.findall(r"\)  # (.*)", code)
        assert len(out.getvalue().splitlines()) == len(expected)
        for line, wanted in zip(out.getvalue().splitlines(), expected, strict=True):
            assert re.sub(r"\d+", "0", line) == re.sub(r"\d+", "0", wanted)


def test_the_python_of_the_page_on_maps_runs(tmp_path, monkeypatch, capsys):
    """On a model that was never in torch, explained as the page shows, and on an artifact with a path."""
    from tests.cli import onnx_files
    from tests.service import artifacts

    shape = onnx_files.SHAPE
    onnx_files.write(tmp_path / "model.onnx", onnx_files.model())
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).random((6, *shape)))
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "explain.md"
    for line in commands(page)[:2]:
        found = CliRunner().invoke(app, line[1:])
        assert found.exit_code == 0, found.output
    of_the_file, of_further_inputs, of_the_engine = blocks(page, "python")
    names: dict[str, object] = {}
    for code in (of_the_file, of_further_inputs):
        exec(compile(code, page.name, "exec"), names)
    assert capsys.readouterr().out.splitlines() == re.findall(r"\)  # (.*)", of_the_file + of_further_inputs)

    monkeypatch.setitem(artifacts.PROBES, "integrated_gradients", artifacts.PROBES["probe_path"])
    artifacts.write(tmp_path / "models", probes=("integrated_gradients",), calibration=20)
    exec(compile(of_the_engine, page.name, "exec"), {"x": artifacts.inputs(2)})
    assert capsys.readouterr().out.splitlines() == re.findall(r"\)  # (.*)", of_the_engine)


def test_the_readme_names_every_verb():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"clearweight {verb}" in readme for verb in VERBS)


def test_the_architecture_has_one_line_for_every_module_under_its_folder_and_none_for_another():
    listed: list[str] = []
    folder = ""
    for line in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"##+ ([\w/]+)$", line):
            folder = heading[1]
        if (module := re.match(r"- `(\w+\.py)` ", line)) and folder.partition("/")[0] in PARTS:
            listed.append(f"{folder}/{module[1]}")
    there = [
        path.relative_to(ROOT / part / "clearweight").as_posix()
        for part in PARTS
        for path in (ROOT / part / "clearweight").rglob("*.py")
        if path.name != "__init__.py" and "generated" not in path.parts
    ]

    assert sorted(listed) == sorted(there)


def test_no_entry_of_the_changelog_stands_there_twice():
    entries = re.findall(
        r"^- .*(?:\n  .*)*", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert len(entries) > 1
    assert len(set(entries)) == len(entries)


def test_every_test_that_the_threat_table_names_exists():
    """A file by its name or its end; functions of a row in one of that row's files."""
    everywhere = list((ROOT / "tests").rglob("test_*.py"))
    rows = [
        line for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines() if "test_" in line
    ]

    assert rows
    for row in rows:
        named = re.findall(r"`([\w/]*test_\w+\.py)", row)
        found = [path for name in named for path in everywhere if path.as_posix().endswith(f"/{name}")]
        assert all(any(path.as_posix().endswith(f"/{name}") for path in found) for name in named), row
        text = "".join(path.read_text(encoding="utf-8") for path in found)
        for function in re.findall(r"::(test_\w+)", row):
            assert f"def {function}(" in text, function


def test_contributing_stays_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) < 60
