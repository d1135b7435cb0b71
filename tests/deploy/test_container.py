"""The image, built and run as a cluster would: no root, nothing writable, no capabilities, no network.

``make test-container`` prepares a stand-in base image (root rights, debootstrap, buildah, podman) and runs this.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.deploy.presence import missing, need

ROOT = Path(__file__).parents[2]
BASE = "localhost/python:3.11-slim-bookworm"
IMAGE = "localhost/clearweight:test"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
PODMAN = ("podman", "--cgroup-manager=cgroupfs", "--runtime", "runc")
# Explicit limits, for machines that may not raise their own.
LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")
LOCKED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]


def run(*command, check=True, **settings):
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=500, **settings)


@pytest.fixture(scope="module")
def image():
    """Build the image, from the cache where nothing has changed; returns its name."""
    need("buildah", "podman", "runc")
    if os.geteuid() != 0:
        missing("root", "run as root")
    if run("podman", "image", "exists", BASE, check=False).returncode != 0:
        missing(BASE, "run make test-container")
    # Mounted while the build runs and not left in the image: the authorities of the network the build runs in.
    authorities = ("-v", f"{AUTHORITIES}:{AUTHORITIES}:ro") if Path(AUTHORITIES).exists() else ()
    command = ("buildah", "bud", "--layers", "--format", "docker", "--isolation", "chroot", "--pull=never")
    built = run(*command, "--network", "host", *authorities, "-t", IMAGE, ROOT, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    return IMAGE


class Container:
    """A running container of the image."""

    def __init__(self, image, models, *options):
        probe = ROOT / "helm" / "files" / "probe.py"
        mounts = ("-v", f"{models}:/models:ro", "-v", f"{probe}:/probe.py:ro")
        started = run(*PODMAN, "run", "-d", *LIMITS, *LOCKED, *mounts, *options, image)
        self.name = started.stdout.strip()
        self.started = time.monotonic()

    def exec(self, *command, check=True):
        return run(*PODMAN, "exec", self.name, *command, check=check)

    def wait_until_live(self):
        while run(*PODMAN, "healthcheck", "run", self.name, check=False).returncode != 0:
            assert time.monotonic() < self.started + 60, self.logs()
            time.sleep(0.1)

    def logs(self):
        logged = run("podman", "logs", self.name)
        return logged.stdout + logged.stderr

    def inspect(self, form):
        return run("podman", "inspect", self.name, "--format", form).stdout.strip()

    def remove(self):
        run(*PODMAN, "rm", "--force", "--time", "1", self.name, check=False)


@pytest.fixture(scope="module")
def container(image, models):
    started = Container(image, models, "--network", "none", "-m", "256m", "--cpus", "1")
    started.wait_until_live()
    yield started
    started.remove()


def test_it_predicts_and_explains_without_any_network(container):
    said = container.exec("python", "/probe.py", "http://127.0.0.1:8080").stdout

    assert "tiny: predicted class" in said
    assert "explained by input_x_gradient as [1, 1, 8, 8]" in said


def test_it_answers_over_grpc(container):
    script = (
        "import grpc; from clearweight.service.rpc.generated import open_inference_pb2 as m, "
        "open_inference_pb2_grpc as g; stub = g.GRPCInferenceServiceStub(grpc.insecure_channel('127.0.0.1:8081')); "
        "print(stub.ModelReady(m.ModelReadyRequest(name='tiny')).ready)"
    )

    assert container.exec("python", "-c", script).stdout.strip() == "True"


def test_it_runs_as_nobody_in_particular_without_capabilities(container):
    status = dict(
        line.split(":\t", 1)
        for line in container.exec("cat", "/proc/1/status").stdout.splitlines()
        if ":\t" in line
    )

    assert status["Uid"].split() == ["10001"] * 4
    assert status["Gid"].split() == ["10001"] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("where", ["/opt/clearweight", "/models", "/etc", "/"])
def test_nothing_but_the_temporary_folder_can_be_written(container, where):
    refused = container.exec("touch", f"{where}/file", check=False)

    assert refused.returncode != 0
    assert "Read-only file system" in refused.stderr
    container.exec("sh", "-c", "cd /tmp && touch file")


def test_neither_torch_nor_the_exporter_nor_pip_is_in_the_image(container):
    found = container.exec(
        "python",
        "-c",
        "from importlib.util import find_spec; "
        "print(*(find_spec(name) is None for name in ('torch', 'clearweight.exporter', 'onnxruntime')))",
    )

    assert found.stdout.split() == ["True", "True", "False"]
    assert (
        container.exec("sh", "-c", "ls /opt/clearweight/libraries | grep -c '^pip$'", check=False).stdout
        == "0\n"
    )


def test_the_image_holds_what_settings_can_ask_for(container):
    """`require_signature` checks with cryptography, `tracing_endpoint` sends by OpenTelemetry."""
    script = (
        "from cryptography.hazmat.primitives.asymmetric import ed25519; "
        "from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter; print('both')"
    )

    assert container.exec("python", "-c", script).stdout == "both\n"


def test_it_stays_within_its_memory_limit(container):
    limits = container.exec(
        "sh",
        "-c",
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null",
        check=False,
    )

    assert limits.stdout.strip() == str(256 * 2**20)
    assert container.inspect("{{.State.Status}}") == "running"


def test_the_image_says_what_it_is(image):
    told = json.loads(run("podman", "inspect", image).stdout)[0]

    labels = told["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "clearweight"
    assert {"description", "licenses", "version", "revision"} <= {name.rpartition(".")[2] for name in labels}
    assert told["Config"]["User"] == "10001:10001"
    assert set(told["Config"]["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}
    assert "curl" not in json.dumps(told["Healthcheck"])


def test_the_libraries_are_a_layer_of_their_own(image):
    """So that a new version of the service is a small pull."""
    history = json.loads(run("podman", "history", "--format", "json", image).stdout)
    copies = [layer["size"] for layer in history if "COPY" in layer["CreatedBy"]]

    newest, *_, libraries = copies
    assert newest < 8e6
    assert 5e7 < libraries < 2.5e8


def test_it_is_unhealthy_when_the_service_does_not_answer(image, models):
    idle = Container(image, models, "--network", "none", "--entrypoint", '["sleep", "60"]')
    try:
        found = run(*PODMAN, "healthcheck", "run", idle.name, check=False)
        assert found.returncode != 0
    finally:
        idle.remove()


@pytest.mark.parametrize("clients", ["anyone", "with a certificate"])
def test_the_health_check_knows_tls(image, models, tmp_path, clients):
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.crt"
    made = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=clearweight",
        "-days",
        "2",
    )
    run(*made, "-keyout", key, "-out", certificate)
    for path in (tmp_path, key, certificate):
        path.chmod(0o755)
    given = {"CERT": "/tls/tls.crt", "KEY": "/tls/tls.key"}
    if clients != "anyone":
        given["CLIENT_CA"] = "/tls/tls.crt"
    options = [word for name, value in given.items() for word in ("-e", f"CLEARWEIGHT_TLS_{name}={value}")]
    running = Container(image, models, "--network", "none", "-v", f"{tmp_path}:/tls:ro", *options)
    try:
        running.wait_until_live()
        plain = running.exec("python", "/probe.py", "http://127.0.0.1:8080", check=False)
        assert plain.returncode != 0
    finally:
        running.remove()


def test_sigterm_ends_it_with_code_zero_in_time(image, models):
    running = Container(image, models, "--network", "none")
    try:
        running.wait_until_live()
        began = time.monotonic()
        run(*PODMAN, "stop", "--time", "20", running.name)
        took = time.monotonic() - began
        assert running.inspect("{{.State.ExitCode}}") == "0"
        assert "Stopped." in running.logs()
        assert took < 10
    finally:
        running.remove()


def test_without_models_it_ends_and_says_so(image, tmp_path):
    tmp_path.chmod(0o755)
    running = Container(image, tmp_path, "--network", "none")
    try:
        run(*PODMAN, "wait", running.name)
        assert running.inspect("{{.State.ExitCode}}") == "2"
        assert "/models" in running.logs()
    finally:
        running.remove()
