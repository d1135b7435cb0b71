"""Servers and load generators as processes of their own, each on its core, and what the system says of them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.load import Load, Measured

SERVE = (
    "import sys, json; from clearweight.service.serve import serve; "
    "from clearweight.service.settings import Settings; "
    "serve(Settings(models=sys.argv[1], http_port=0, grpc_port=0, log_level='warning', **json.loads(sys.argv[2])))"
)


def service(artifact: Path, **settings: float | str) -> list[str]:
    """Return the arguments of a Python process that serves an artifact on free ports."""
    return ["-c", SERVE, str(artifact), json.dumps(settings)]


def _pin(core: int) -> Callable[[], None] | None:
    if not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2:
        return None
    return lambda: os.sched_setaffinity(0, {core})


@contextmanager
def process(arguments: list[str], core: int) -> Iterator[subprocess.Popen[str]]:
    """Run Python with these arguments on one core; SIGTERM ends it."""
    command = [sys.executable, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, preexec_fn=_pin(core)) as started:  # noqa: PLW1509  # this process has one thread
        try:
            yield started
        finally:
            started.terminate()


def ask(process: subprocess.Popen[str], load: Load) -> Measured:
    """Let a process of ``benchmarks.load`` drive a load."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(load)) + "\n")
    process.stdin.flush()
    return Measured(**json.loads(process.stdout.readline()))


def ports(process: subprocess.Popen[str]) -> dict[str, int]:
    """Read a server's first line; returns the port of each protocol."""
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    return {"grpc": found["grpc_port"], "rest_json": found["http_port"], "rest_binary": found["http_port"]}


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def open_files(pid: int) -> int:
    """Count the file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    """Count the threads of a process."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
