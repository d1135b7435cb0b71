"""Writes a finished export again, as the pipeline does, and kills itself at the n-th step of writing.

Run as a program: SOURCE (a model repository) OUT N. Steps are flushes and renames; without the kill it prints how
many there were.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from clearweight.artifact import Artifact, write_artifact, write_folder

steps = 0
last = int(sys.argv[3])


def counted(function):
    """Kill this process before the n-th call of any counted function."""

    def call(*arguments, **settings):
        global steps  # noqa: PLW0603 - the one counter of this program
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **settings)

    return call


os.fsync = counted(os.fsync)
Path.rename = counted(Path.rename)  # type: ignore[method-assign]  # to count


def write(path: Path, out: Path, *, overwrite: bool) -> None:
    manifest = Artifact.open(path).manifest
    contents = {name: (path / name).read_bytes() for name in manifest.files}
    write_artifact(out, replace(manifest, files={}, manifest_sha256=""), contents, overwrite=overwrite)


def main() -> None:
    model = Path(sys.argv[1]) / "digits"
    out = Path(sys.argv[2])
    write(model / "1-reference", out, overwrite=True)
    exchange = {p.name: p.read_bytes() for p in (model / "1-onnx").iterdir()}
    write_folder(out / "digits" / "1-onnx", exchange, overwrite=True)
    write(model / "1", out, overwrite=False)
    print(steps)  # noqa: T201 - the answer to the test that runs this


main()
