"""The library half stays small: what it imports, what it exports, what it weighs."""

import subprocess
import sys

import pytest

import clearweight.service


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_service_loads_no_transport_and_no_torch():
    loaded = run("import sys, clearweight.service; print(*sys.modules)").split()

    heavy = {"torch", "fastapi", "grpc", "pydantic", "uvicorn", "prometheus_client", "onnx", "asyncio"}
    assert "onnxruntime" in loaded
    assert heavy.isdisjoint(loaded)


def test_importing_the_whole_server_loads_no_torch():
    loaded = run(
        "import sys, clearweight.service.serve, clearweight.service.settings; print(*sys.modules)"
    ).split()

    assert "fastapi" in loaded
    assert {"torch", "onnx", "clearweight.exporter"}.isdisjoint(loaded)


def test_public_names_are_importable_and_sorted():
    names = clearweight.service.__all__

    assert sorted(names) == list(names)
    assert all(hasattr(clearweight.service, name) for name in names)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_an_engine_on_a_small_model_needs_at_most_70_megabytes(models):
    code = (
        "import numpy as np; from clearweight.service import Engine\n"
        f"engine = Engine({str(models / 'tiny' / '10')!r})\n"
        "x = np.ones((4, 1, 8, 8), np.float32)\n"
        "engine.predict(x); engine.explain(x)\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmRSS')).split()[1])\n"
    )

    assert int(run(code)) * 1024 <= 70e6
