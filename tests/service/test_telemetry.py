"""ONNX Runtime's telemetry is off before it is imported; proven in processes of their own."""

import os
import subprocess
import sys

import pytest

CODE = """
import onnxruntime
order = []
switch, session = onnxruntime.disable_telemetry_events, onnxruntime.InferenceSession
def off():
    order.append("off")
    switch()
class Session(session):
    def __init__(self, *given, **settings):
        order.append("session")
        super().__init__(*given, **settings)
onnxruntime.disable_telemetry_events, onnxruntime.InferenceSession = off, Session
onnxruntime.enable_telemetry_events = lambda: order.append("on")
from clearweight.service import Engine
Engine({models!r}).close()
print(*order)
"""


def test_telemetry_is_off_before_the_first_session(models):
    code = CODE.replace("{models!r}", repr(str(models)))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    order = found.stdout.split()

    assert order[0] == "off"
    assert "session" in order
    assert "on" not in order


IMPORTED = """
import os, sys
from importlib.abc import MetaPathFinder
class Watch(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
import {package}
import onnxruntime
"""


@pytest.mark.parametrize("package", ["clearweight.service", "clearweight.exporter.calibration"])
def test_the_runtime_is_told_before_it_is_imported_and_leaves_nothing_at_home(package, tmp_path):
    # It tells itself to be quiet where it finds a build server, which would let this pass for nothing.
    build = ("TF_BUILD", "GITHUB_ACTIONS", "CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in build}
    code = IMPORTED.format(package=package)
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "HOME": str(tmp_path)},
    )

    assert found.stdout.split() == ["1"]
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
