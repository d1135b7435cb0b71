"""The conformance list against this server and its peers: which case passes, 1 or 0, per server.

Every server serves the same ONNX file, the peers through a custom model as their documentation shows it. They need
virtual environments of their own, which are made by hand, because they pull in a hundred packages each::

    python3.11 -m venv build/peers/mlserver && build/peers/mlserver/bin/pip install mlserver==1.7.1 onnxruntime
    python3.11 -m venv build/peers/kserve && build/peers/kserve/bin/pip install kserve==0.21.0 onnxruntime

``python -m benchmarks.conformance`` runs all of it and writes the table of docs/conformance.md.
"""

import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import httpx

from benchmarks.row import Row
from tests.conformance import models
from tests.conformance.cases import CASES, Case
from tests.conformance.target import Oracle, Target, served

BENCH = "conformance"
ROOT = Path(__file__).parents[1]
SERVERS = Path(__file__).parent / "conformance_servers"
PAGE = ROOT / "docs" / "conformance.md"
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Peer:
    """A peer: its package, and the file that serves the model with it."""

    package: str
    command: Callable[[Path, Path, int, int], list[str]]

    @property
    def python(self) -> Path:
        """The interpreter of its own virtual environment."""
        return ROOT / "build" / "peers" / self.package / "bin" / "python"

    @property
    def version(self) -> str:
        """The version that is installed there."""
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        return subprocess.run(
            [self.python, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()


def _mlserver(python: Path, folder: Path, http: int, grpc: int) -> list[str]:
    oracle = Oracle((folder / "model.onnx").read_bytes())
    model = {
        "name": models.MODEL,
        "implementation": "mlserver_model.Onnx",
        "platform": "onnx_onnxv1",
        "versions": ["1"],
        "inputs": oracle.inputs,
        "outputs": oracle.outputs,
        "parameters": {"version": "1", "uri": str(folder / "model.onnx")},
    }
    server = {
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": _free(),
        "parallel_workers": 0,
        "host": "127.0.0.1",
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "settings.json").write_text(json.dumps(server | {"debug": False}))
    return [str(python.with_name("mlserver")), "start", str(folder)]


def _kserve(python: Path, folder: Path, http: int, grpc: int) -> list[str]:
    return [str(python), str(folder / "kserve_model.py"), str(folder / "model.onnx"), str(http), str(grpc)]


PEERS = {"MLServer": Peer("mlserver", _mlserver), "KServe SDK": Peer("kserve", _kserve)}


@contextmanager
def peer_target(peer: Peer) -> Iterator[Target]:
    """Start a peer on free ports and wait until it is ready."""
    http, grpc = _free(), _free()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "model.onnx").write_bytes(models.onnx_file())
        for file in SERVERS.glob("*.py"):
            (folder / file.name).write_bytes(file.read_bytes())
        command = peer.command(peer.python, folder, http, grpc)
        log = stack.enter_context((folder / "log").open("w+b"))
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        process = stack.enter_context(
            subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log)
        )
        stack.callback(process.kill)
        url = f"http://127.0.0.1:{http}"
        try:
            _wait(f"{url}/v2/models/{models.MODEL}/ready", process)
        except RuntimeError as error:
            error.add_note((folder / "log").read_text(errors="replace")[-2000:])
            raise
        target = Target(url, f"127.0.0.1:{grpc}", models.MODEL, Oracle(models.onnx_file()))
        stack.callback(target.close)
        yield target


def _free() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(url, timeout=1.0).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"The peer behind {url} did not become ready.")


def passes(case: Case, target: Target) -> bool | None:
    """Whether a server passes a case; None where the suite has not what the case needs."""
    if case.needs - target.can:
        return None
    with tempfile.TemporaryDirectory() as folder:
        wanted = [target, Path(folder)][: len(inspect.signature(case.check).parameters)]
        try:
            case.check(*wanted)
        except Exception as error:  # noqa: BLE001  # whatever a server does to a case, the case has failed
            if os.environ.get("CLEARWEIGHT_CONFORMANCE_SHOW"):
                print(case.number, repr(error)[:300], getattr(error, "__notes__", ""), file=sys.stderr)
            return False
    return True


@contextmanager
def ours() -> Iterator[Target]:
    """Start this server with every model of the suite."""
    with tempfile.TemporaryDirectory() as folder:
        out = models.write_models(Path(folder))
        with served(out, Oracle(models.onnx_file()), models.MODEL) as server:
            yield server.target


def results(*, quick: bool) -> dict[str, dict[str, bool | None]]:
    """Return case number to result, per server; peers that are not installed are left out."""
    found: dict[str, dict[str, bool | None]] = {}
    servers = {"clearweight": ours}
    for name, peer in PEERS.items():
        if peer.python.exists() and not quick:
            servers[f"{name} {peer.version}"] = lambda peer=peer: peer_target(peer)  # type: ignore[misc]  # bound now
    for name, start in servers.items():
        with start() as target:
            found[name] = {case.number: passes(case, target) for case in CASES}
    return found


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Yield a row per case and server."""
    del data
    for server, cases in results(quick=quick).items():
        for number, passed in cases.items():
            yield Row(
                BENCH, f"{server}/{number}", "passes", None if passed is None else float(passed), "1 or 0"
            )


def table(found: dict[str, dict[str, bool | None]]) -> str:
    """Return the table of docs/conformance.md."""
    signs = {True: "yes", False: "**no**", None: "-"}
    lines = [f"| Case | | {' | '.join(found)} |", f"|---|---|{'---|' * len(found)}"]
    for case in sorted(CASES, key=lambda case: (int(case.number.rstrip("bcd")), case.number)):
        cells = " | ".join(signs[cases[case.number]] for cases in found.values())
        lines.append(f"| {case.number} | {case.title} | {cells} |")
    shared = [
        case.number for case in CASES if all(cases[case.number] is not None for cases in found.values())
    ]
    sums = " | ".join(
        f"{sum(bool(cases[number]) for number in shared)} of {len(shared)}" for cases in found.values()
    )
    return "\n".join([*lines, f"| | **passed, of the cases that all could be asked** | {sums} |"])


def main() -> None:
    """Write the table into its page."""
    begin, end = "<!-- table -->\n", "\n<!-- end of table -->"
    page = PAGE.read_text(encoding="utf-8")
    head, tail = page[: page.index(begin) + len(begin)], page[page.index(end) :]
    PAGE.write_text(head + table(results(quick=False)) + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
