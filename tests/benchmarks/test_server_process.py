"""Processes that are measured: their descendants count, can be held still, and end with them."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.server_process import launched, pause, resume, tree, tree_bytes

PARENT = """
import subprocess, sys, time
run = "print('up', flush=True); import time; time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE)
child.stdout.readline()  # an interpreter that has only just been started takes no memory yet
print(child.pid, flush=True)
time.sleep(60)
"""


def state(pid: int) -> str:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "gone"


def awaited(pid: int, states: str) -> str:
    end = time.monotonic() + 10
    while state(pid) not in states.split() and time.monotonic() < end:
        time.sleep(0.01)
    return state(pid)


def test_a_child_is_paused_counted_and_ended_with_its_parent():
    with launched([sys.executable, "-c", PARENT], None, stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        assert tree(parent.pid) == [parent.pid, child]
        assert tree_bytes(parent.pid, "Rss") > 1.5 * tree_bytes(child, "Rss") > 1.5e6
        assert tree_bytes(parent.pid, "Pss") < tree_bytes(parent.pid, "Rss")
        pause(parent.pid)
        assert [awaited(pid, "T") for pid in (parent.pid, child)] == ["T", "T"]
        resume(parent.pid)
        assert "T" not in {awaited(pid, "S R") for pid in (parent.pid, child)}
        pause(parent.pid)  # what is held still must end too

    assert parent.returncode is not None
    assert awaited(child, "gone Z") in ("gone", "Z")
