"""The repository knows nothing of the machine it was written on."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".txt",
    ".proto",
    ".pyi",
    ".j2",
    ".css",
    ".json",
    ".ipynb",
    "",
}
# First steps of absolute paths on the machines of people and workplaces; "someone" stands for nobody in tests.
ROOTS = ("home", "Users", "work", "root", "tmp")
PATTERN = re.compile(rf"(?<![\w.)}}\]])/(?:{'|'.join(ROOTS)})/(?!someone)\w+")


def tracked() -> list[Path]:
    """Return every file that belongs to the repository, committed or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_text_holds_a_host_path():
    found = []
    for path in tracked():
        if path.suffix in TEXT:
            text = path.read_text(encoding="utf-8")
            found += [f"{path.relative_to(ROOT)}: {m.group()}" for m in PATTERN.finditer(text)]

    assert not found


def test_no_build_output_is_tracked():
    names = {part for path in tracked() for part in path.relative_to(ROOT).parts}

    assert names.isdisjoint(
        {"build", "dist", ".venv", "__pycache__", ".hypothesis", ".mypy_cache", ".ruff_cache"}
    )
