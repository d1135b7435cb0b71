"""The servers of others that ours is measured against, each in a virtual environment of its own, with one ONNX file.

They are made by hand, because they pull in a hundred packages each; ``Peer.how_to_make`` says how.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import socket

from benchmarks.server_process import launched

ROOT = Path(__file__).parents[1]
MODELS = Path(__file__).parent / "peer_servers"
ONNXRUNTIME = "1.31.1"
PATIENCE_S = 120.0
POLL_S = 0.01


@dataclass(frozen=True)
class Order:
    """What a peer is to serve: the ONNX file under a name, from a folder that it may write to, on free ports."""

    folder: Path
    file: Path
    model: str
    http: int
    grpc: int


@dataclass(frozen=True)
class Peer:
    """A peer and how it is started.

    Attributes
    ----------
    package : its distribution; also the name of its virtual environment
    tested : the version that the published figures are of
    command : (its interpreter, order) -> command line
    ready, infer : REST paths, ``{model}`` in place of the model's name
    protocols : what it speaks of ``rest_json``, ``rest_binary`` and ``grpc``
    """

    title: str
    package: str
    tested: str
    command: Callable[[Path, Order], list[str]]
    ready: str
    infer: str
    protocols: tuple[str, ...]

    @property
    def environment(self) -> Path:
        """Its virtual environment."""
        return ROOT / "build" / "peers" / self.package

    @property
    def python(self) -> Path:
        """The interpreter of its virtual environment."""
        return self.environment / "bin" / "python"

    @property
    def version(self) -> str:
        """The version that is installed there."""
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        return subprocess.run(
            [self.python, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()

    @property
    def how_to_make(self) -> str:
        """What to do where it is not installed."""
        where = self.environment.relative_to(ROOT)
        return (
            f"{self.title} is left out: expected its virtual environment as {where}. Make it with: python3.11 -m venv "
            f"{where} && {where}/bin/pip install {self.package}=={self.tested} onnxruntime=={ONNXRUNTIME}"
        )


def _mlserver(python: Path, order: Order) -> list[str]:
    model = {
        "name": order.model,
        "implementation": "mlserver_model.Onnx",
        "platform": "onnx_onnxv1",
        "versions": ["1"],
        "parameters": {"version": "1", "uri": str(order.file)},
    }
    server = {
        "http_port": order.http,
        "grpc_port": order.grpc,
        "metrics_port": free_port(),
        "parallel_workers": 0,  # in its own process, which is faster than its default
        "host": "127.0.0.1",
        "debug": False,
    }
    (order.folder / "model-settings.json").write_text(json.dumps(model))
    (order.folder / "settings.json").write_text(json.dumps(server))
    return [str(python.with_name("mlserver")), "start", str(order.folder)]


def _kserve(python: Path, order: Order) -> list[str]:
    served = [str(order.file), order.model, str(order.http), str(order.grpc)]
    return [str(python), "kserve_model.py", *served]


def _litserve(python: Path, order: Order) -> list[str]:
    return [str(python), "litserve_model.py", str(order.file), str(order.http)]


def _bentoml(python: Path, order: Order) -> list[str]:
    command = [str(python.with_name("bentoml")), "serve", "bentoml_model:Onnx", "--host", "127.0.0.1"]
    return [*command, "--port", str(order.http)]


_OIP = ("/v2/models/{model}/ready", "/v2/models/{model}/infer")
PEERS: dict[str, Peer] = {
    "mlserver": Peer("MLServer", "mlserver", "1.7.1", _mlserver, *_OIP, ("rest_json", "grpc")),
    "kserve": Peer("KServe SDK", "kserve", "0.21.0", _kserve, *_OIP, ("rest_json", "rest_binary", "grpc")),
    "litserve": Peer("LitServe", "litserve", "0.2.19", _litserve, "/health", "/predict", ("rest_json",)),
    "bentoml": Peer("BentoML", "bentoml", "1.4.39", _bentoml, "/readyz", "/infer", ("rest_json",)),
}


def installed() -> dict[str, Peer]:
    """Return the peers that are there; says on standard error how to make each that is not."""
    for peer in PEERS.values():
        if not peer.python.exists():
            print(peer.how_to_make, file=sys.stderr)
    return {name: peer for name, peer in PEERS.items() if peer.python.exists()}


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Running:
    """A peer that is ready."""

    process: subprocess.Popen[str]
    http: int
    grpc: int


@contextmanager
def running(peer: Peer, model: bytes, name: str, core: int | None = None) -> Iterator[Running]:
    """Start a peer on free ports, on one core if one is given, and wait until it is ready.

    Raises
    ------
    RuntimeError
        It did not become ready; a note has the end of its log.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        order = Order(folder, folder / "model.onnx", name, free_port(), free_port())
        order.file.write_bytes(model)
        own = MODELS / f"{peer.package}_model.py"
        (folder / own.name).write_bytes(own.read_bytes())
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"MODEL_FILE": str(order.file), "BENTOML_DO_NOT_TRACK": "True"}
        log = stack.enter_context((folder / "log").open("w+b"))
        command = peer.command(peer.python, order)
        started = launched(command, core, cwd=folder, env=environment, stdout=log, stderr=log)
        process = stack.enter_context(started)
        try:
            await_ok(order.http, peer.ready.format(model=name), process)
        except RuntimeError as error:
            error.add_note((folder / "log").read_text(errors="replace")[-2000:])
            raise
        yield Running(process, order.http, order.grpc)


def await_ok(port: int, path: str, process: subprocess.Popen[str]) -> None:
    """Wait until a path answers 200.

    Raises
    ------
    RuntimeError
        The process ended, or patience did.
    """
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(POLL_S)
    raise RuntimeError(f"The server behind port {port} did not become ready.")
