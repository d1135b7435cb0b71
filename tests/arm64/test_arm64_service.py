"""The whole service on 64-bit ARM, under emulation: both transports, explanations, metrics, drain. Never timing.

``make test-arm64`` prepares the root (root rights, debootstrap, qemu-user-static) and runs this.
"""

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

from clearweight.client import Client
from clearweight.service import Engine

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "build" / "arm64" / "root"
QEMU = "/usr/bin/qemu-aarch64-static"
SERVE = (
    "import platform; assert platform.machine() == 'aarch64'; "
    "from clearweight.service.serve import serve; from clearweight.service.settings import Settings; "
    "serve(Settings(models='/served', http_port=0, grpc_port=0, shadow=1.0))"
)

pytestmark = [
    pytest.mark.arm64,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (IMAGE / ".ready").exists() or os.geteuid() != 0,
        reason="no ARM root in build/arm64: run make test-arm64 as root",
    ),
]


class Emulated:
    """The service in the emulated root; its ports are those of this machine."""

    def __init__(self, model: str) -> None:
        self.process = subprocess.Popen(
            ["/usr/sbin/chroot", IMAGE, QEMU, "/usr/bin/python3.11", "-c", SERVE],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": "/site", "PATH": "/usr/bin", "OMP_NUM_THREADS": "1"},
        )
        self.model = model
        said = self.process.stdout.readline()
        assert said, self.process.stderr.read()
        self.ports = json.loads(said)
        # Read all the time, or a full pipe would stop it.
        self.log: list[str] = []
        self.reading = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reading.start()

    def url(self, scheme: str) -> str:
        port = self.ports["http_port" if scheme == "http" else "grpc_port"]
        return f"{scheme}://127.0.0.1:{port}"

    def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        code = self.process.wait(120)
        self.reading.join(10)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def client(self, scheme: str) -> Client:
        return Client(self.url(scheme), model=self.model, timeout=120)


@pytest.fixture(scope="module")
def repository(exported):
    """What the device serves: the artifact, and its reference for live drift."""
    served = IMAGE / "served" / exported.path.parent.name
    shutil.rmtree(served.parent, ignore_errors=True)
    for name in ("1", "1-reference"):
        shutil.copytree(exported.path.with_name(name), served / name)
    for part in ("artifact", "service"):
        shutil.copytree(ROOT / part / "clearweight", IMAGE / "site" / "clearweight", dirs_exist_ok=True)
    told = importlib.metadata.distribution("clearweight").locate_file("")  # its version is in its metadata
    for metadata in Path(str(told)).glob("clearweight-*.dist-info"):
        shutil.copytree(metadata, IMAGE / "site" / metadata.name, dirs_exist_ok=True)
    return served.parent


@pytest.fixture(scope="module")
def emulated(repository):
    started = Emulated(*(path.name for path in repository.iterdir()))
    yield started
    started.process.kill()
    started.ended()


@pytest.fixture(scope="module")
def images(exported):
    return np.asarray(exported.prepared.splits.validation.inputs[:4])


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_it_predicts_and_explains_as_this_processor_does(emulated, exported, images, scheme):
    with Engine(exported.path) as engine:
        own = engine.explain(images)
    with emulated.client(scheme) as client:
        logits = client.predict(images).logits
        told = client.explain(images)

    np.testing.assert_allclose(logits, own.logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(told.logits, own.logits, rtol=1e-3, atol=1e-4)
    flat = [np.asarray(m).reshape(4, -1) for m in (told.map, own.map)]
    cosine = (flat[0] * flat[1]).sum(1) / np.linalg.norm(flat[0], axis=1) / np.linalg.norm(flat[1], axis=1)
    assert cosine.min() > 0.9999
    assert told.parameters["model_sha256"] == own.parameters["model_sha256"]


def test_it_tests_itself_and_compares_with_the_reference(emulated, images):
    with emulated.client("http") as client:
        client.predict(images)
        health = client.drift()

    assert health["integrity"]["state"] == "passed"
    assert health["drift"]["source"] == "shadow"


def test_metrics_and_health_answer(emulated):
    metrics = httpx.get(emulated.url("http") + "/metrics", timeout=120).text
    assert "clearweight_requests_total" in metrics
    assert httpx.get(emulated.url("http") + "/v2/health/ready", timeout=120).status_code == 200
    with grpc.insecure_channel(f"127.0.0.1:{emulated.ports['grpc_port']}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=120) == b"\x08\x01"  # SERVING


def test_it_finishes_what_it_has_taken_and_ends_with_code_zero(repository, images):
    """Explanations are under way on both transports when the signal comes; none is lost."""
    emulated = Emulated(*(path.name for path in repository.iterdir()))
    answered, began = [], threading.Barrier(3)

    def ask(scheme):
        with emulated.client(scheme) as client:
            client.predict(images[:1])  # connected
            began.wait(120)
            answered.append(len(client.explain(np.repeat(images, 16, axis=0)).map))

    threads = [threading.Thread(target=ask, args=(scheme,)) for scheme in ("http", "grpc")]
    for thread in threads:
        thread.start()
    began.wait(120)
    taken = threading.Event()
    taken.wait(1.0)  # emulated, these explanations take seconds
    emulated.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(120)

    assert emulated.ended() == 0, "".join(emulated.log)[-2000:]
    assert answered == [64, 64]
