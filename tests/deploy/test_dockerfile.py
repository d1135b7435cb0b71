import re
import subprocess
import tomllib
from pathlib import Path

from tests.deploy.presence import need

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_hadolint_finds_nothing():
    need("hadolint")

    found = subprocess.run(
        ["hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60
    )

    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_is_labelled_with_the_projects_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert f"ARG VERSION={project['version']}\n" in DOCKERFILE
    assert f'org.opencontainers.image.licenses="{project["license"]}"' in DOCKERFILE


def test_everything_that_is_copied_passes_the_dockerignore():
    """The ignore file lists what may enter; a file that the build needs and the list forgets would be missing."""
    allowed = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line[:1] == "!"
    ]
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]

    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert any(source == rule or source.startswith(f"{rule}/") for rule in allowed), source


def test_the_last_stage_runs_nothing_so_that_another_processors_image_needs_no_emulation():
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]

    assert "\nRUN " not in last
    assert "\nUSER 10001:10001\n" in last
