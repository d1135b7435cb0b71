"""Servers and load generators as processes of their own, each on its core, and what the system says of them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.load import Load, Measured

SERVE = (
    "import sys, json; from clearweight.service.serve import serve; "
    "from clearweight.service.settings import Settings; "
    "serve(Settings(models=sys.argv[1], http_port=0, grpc_port=0, log_level='warning', **json.loads(sys.argv[2])))"
)


_GRACE_S = 20.0
_WARM_S = 0.3


def service(artifact: Path, **settings: float | str) -> list[str]:
    """Return the arguments of a Python process that serves an artifact on free ports."""
    return ["-c", SERVE, str(artifact), json.dumps(settings)]


def _pin(core: int | None) -> Callable[[], None] | None:
    if core is None or not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2:
        return None
    return lambda: os.sched_setaffinity(0, {core})


@contextmanager
def launched(command: list[str], core: int | None, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a command, and all that it starts, on one core; SIGTERM ends it, SIGKILL what it leaves behind."""
    with subprocess.Popen(command, text=True, preexec_fn=_pin(core), **options) as started:  # noqa: PLW1509  # this process has one thread
        try:
            yield started
        finally:
            _, *children = tree(started.pid)
            resume(started.pid)
            started.terminate()
            with suppress(subprocess.TimeoutExpired):
                started.wait(_GRACE_S)
            started.kill()
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextmanager
def process(arguments: list[str], core: int) -> Iterator[subprocess.Popen[str]]:
    """Run Python with these arguments on one core, standard input and output at hand; SIGTERM ends it."""
    pipe = subprocess.PIPE
    with launched([sys.executable, *arguments], core, stdin=pipe, stdout=pipe) as started:
        yield started


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for task in Path("/proc").glob(f"{pid}/task/*/children"):
        with suppress(OSError):  # a thread that ended meanwhile
            found += [own for child in task.read_text().split() for own in tree(int(child))]
    return found


def pause(pid: int) -> None:
    """Stop a process and its descendants where they are, so that they cost nothing while others are measured."""
    for own in tree(pid):
        os.kill(own, signal.SIGSTOP)


def resume(pid: int) -> None:
    """Let a paused process and its descendants go on."""
    for own in tree(pid):
        with suppress(ProcessLookupError):
            os.kill(own, signal.SIGCONT)


def ask(process: subprocess.Popen[str], load: Load) -> Measured:
    """Let a process of ``benchmarks.load`` drive a load."""
    return Measured(**tell(process, json.dumps(asdict(load))))


def charged(client: subprocess.Popen[str], pid: int, load: Load) -> Measured:
    """Let a load drive the server of this process, and read what a request costs it.

    Processor time hardly depends on what else the machine does, where speed and latency do.
    """
    before = cpu_seconds(pid)
    found = ask(client, load)
    spent = cpu_seconds(pid) - before
    return replace(found, cpu_us=1e6 * spent / max(1.0, found.requests_per_second * load.seconds))


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process's threads."""
    stats = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(stat.read_text().split()[0]) for stat in stats) / 1e9


def turn(client: subprocess.Popen[str], pid: int, load: Load) -> Measured:
    """Wake a paused server, warm it up, measure it, pause it again."""
    resume(pid)
    ask(client, replace(load, seconds=_WARM_S))
    found = charged(client, pid, load)
    pause(pid)
    return found


def tell(process: subprocess.Popen[str], line: str) -> Any:
    """Give a process that answers line by line a line; returns its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def ports(process: subprocess.Popen[str]) -> dict[str, int]:
    """Read a server's first line; returns the port of each protocol."""
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    return {"grpc": found["grpc_port"], "rest_json": found["http_port"], "rest_binary": found["http_port"]}


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def tree_bytes(pid: int, what: str) -> int:
    """Return the memory of a process and its descendants: ``Rss``, or ``Pss``, which counts shared pages once."""
    total = 0
    for own in tree(pid):
        lines = Path(f"/proc/{own}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))
    return total


def open_files(pid: int) -> int:
    """Count the file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    """Count the threads of a process."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
