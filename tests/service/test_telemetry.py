"""ONNX Runtime's telemetry is off before its first session; proven in a process of its own."""

import subprocess
import sys

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
