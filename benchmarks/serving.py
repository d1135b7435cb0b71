"""Our service beside MLServer, the KServe SDK, LitServe, BentoML and bare handlers, with the same ONNX model.

One worker each. All servers have one core, the load generator has another; they take turns within a round, and those
whose turn it is not are stopped. What a server and a protocol come to is the median over the rounds, ``over_SERVER``
is ours divided by that server's, ``_min`` and ``_max`` the least and the most of the rounds. MLServer, LitServe and
BentoML have no binary tensors over REST, LitServe and BentoML no gRPC.

``cold_start_s`` runs from the start of the process to the first correct answer; ``rss_mb`` and ``pss_mb`` are what the
process and its descendants hold half a second later. ``extra_over_ort_predict`` is what an explanation takes beyond a
prediction (both p50 at one connection) over the time of a prediction in ONNX Runtime alone on the same core.

Peers that are not installed are named, with the command that installs them, and left out.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort
import orjson
from numpy.typing import NDArray

from benchmarks.load import Load, Measured
from benchmarks.peers import Peer, installed, running
from benchmarks.row import Row
from benchmarks.served_cnn import EXPLAIN_PATH, METHOD, PATH, bodies, network, write_cnn, write_explained
from benchmarks.server_process import pause, ports, process, service, tell, tree_bytes, turn

BENCH = "serving"
OURS = "clearweight"
PROTOCOLS = ("rest_json", "rest_binary", "grpc")
CONNECTIONS = (1, 16)
SERVERS_CORE, CLIENT_CORE = 0, 1
IDLE_S = 0.5
_OUR_PATHS = {"rest_json": PATH, "rest_binary": PATH, "grpc": METHOD}
_FLOOR_PATHS = {"rest_json": "/json", "rest_binary": "/binary", "grpc": METHOD}


@dataclass(frozen=True)
class Contender:
    """A server that runs: its process, and where each protocol that it speaks is to be found."""

    pid: int
    ports: Mapping[str, int]
    paths: Mapping[str, str]


@dataclass(frozen=True)
class Effort:
    """How often and how long."""

    rounds: int
    seconds: float
    starts: int


FULL, QUICK = Effort(rounds=5, seconds=1.0, starts=5), Effort(rounds=2, seconds=0.3, starts=1)
Start = Callable[[], AbstractContextManager[Contender]]


@contextmanager
def ours(artifact: Path) -> Iterator[Contender]:
    """Start this service."""
    with process(service(artifact), SERVERS_CORE) as started:
        yield Contender(started.pid, ports(started), _OUR_PATHS)


@contextmanager
def floor(artifact: Path) -> Iterator[Contender]:
    """Start the bare handlers."""
    with process(["-m", "benchmarks.bare_server", str(artifact)], SERVERS_CORE) as started:
        yield Contender(started.pid, ports(started), _FLOOR_PATHS)


@contextmanager
def peer_contender(peer: Peer, model: bytes) -> Iterator[Contender]:
    """Start a peer."""
    with running(peer, model, "cnn", SERVERS_CORE) as found:
        at = {name: found.grpc if name == "grpc" else found.http for name in peer.protocols}
        path = peer.infer.format(model="cnn")
        yield Contender(found.process.pid, at, {name: METHOD if name == "grpc" else path for name in at})


def contenders(folder: Path) -> dict[str, Start]:
    """Return how to start every server that is there, all with the same model."""
    artifact, model = write_cnn(folder / "models"), network()[0].SerializeToString()
    (folder / "model.onnx").write_bytes(model)
    found: dict[str, Start] = {OURS: partial(ours, artifact), "floor": partial(floor, artifact)}
    return found | {name: partial(peer_contender, peer, model) for name, peer in installed().items()}


def expected(folder: Path) -> NDArray[np.float32]:
    """Return what the model answers to the request of ``bodies``."""
    (tensor,) = orjson.loads(bodies(folder)["rest_json"][0].read_bytes())["inputs"]
    x = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    values: NDArray[np.float32] = ort.InferenceSession(folder / "model.onnx").run(None, {"x": x})[0]
    return values


def check(name: str, contender: Contender, folder: Path) -> None:
    """Demand that a server answers, and rightly.

    Raises
    ------
    RuntimeError
        It does not.
    """
    body, headers = bodies(folder)["rest_json"]
    connection = HTTPConnection("127.0.0.1", contender.ports["rest_json"], timeout=60)
    connection.request("POST", contender.paths["rest_json"], body.read_bytes(), headers)
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    if reply.status != 200:
        raise RuntimeError(f"{name} answered {reply.status}: {text[:300]!r}, expected 200.")
    (tensor,) = orjson.loads(text)["outputs"]
    found = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    if not np.allclose(found, expected(folder), rtol=1e-4, atol=1e-5):
        raise RuntimeError(f"{name} answered {found}, expected {expected(folder)}.")


def starts(starters: Mapping[str, Start], folder: Path, effort: Effort) -> Iterator[Row]:
    """Start every server several times, in turn: how soon it answers, and what it holds then."""
    found: dict[str, dict[str, list[float]]] = {
        name: {"cold_start_s": [], "rss_mb": [], "pss_mb": []} for name in starters
    }
    for _ in range(effort.starts):
        for name, start in starters.items():
            began = time.perf_counter()
            with start() as contender:
                check(name, contender, folder)
                found[name]["cold_start_s"].append(time.perf_counter() - began)
                time.sleep(IDLE_S)
                for metric, what in (("rss_mb", "Rss"), ("pss_mb", "Pss")):
                    found[name][metric].append(tree_bytes(contender.pid, what) / 1e6)
    for name, metrics in found.items():
        for metric, values in metrics.items():
            yield Row(BENCH, name, metric, median(values), metric.rpartition("_")[2].replace("mb", "MB"))


def speeds(starters: Mapping[str, Start], protocol: str, folder: Path, effort: Effort) -> Iterator[Row]:
    """Drive all servers that speak a protocol in turn, at one and at sixteen connections."""
    body, headers = bodies(folder)[protocol]
    with ExitStack() as stack:
        client = stack.enter_context(process(["-m", "benchmarks.load"], CLIENT_CORE))
        running_ = {}
        for name, start in starters.items():
            contender = stack.enter_context(start())
            check(name, contender, folder)
            pause(contender.pid)
            if protocol in contender.ports:
                running_[name] = contender
        for connections in CONNECTIONS:
            found: dict[str, list[Measured]] = {name: [] for name in running_}
            for index in range(effort.rounds):
                # Forwards and backwards by turns, so that nobody always comes after the same neighbour.
                for name in list(running_)[:: -1 if index % 2 else 1]:
                    contender = running_[name]
                    kind, port = ("grpc" if protocol == "grpc" else "http"), contender.ports[protocol]
                    path = contender.paths[protocol]
                    load = Load(kind, port, path, str(body), headers, connections, effort.seconds)
                    found[name].append(turn(client, contender.pid, load))
            yield from compared(protocol, connections, found)


def compared(protocol: str, connections: int, found: Mapping[str, list[Measured]]) -> Iterator[Row]:
    """Yield what each server came to, and ours over every other."""

    def case(name: str) -> str:
        return f"{name}/{protocol}/predict/c{connections}"

    def middle(name: str, metric: str) -> float:
        return float(median(getattr(one, metric) for one in found[name]))

    for name, rounds in found.items():
        for metric, unit in (("requests_per_second", "1/s"), ("p50_ms", "ms"), ("p99_ms", "ms")):
            yield Row(BENCH, case(name), metric, middle(name, metric), unit)
        yield Row(BENCH, case(name), "error_count", sum(one.errors for one in rounds), "requests")
    for name in found:
        if name == OURS:
            continue
        pairs = zip(found[OURS], found[name], strict=True)
        ratios = [one.requests_per_second / other.requests_per_second for one, other in pairs]
        over = middle(OURS, "requests_per_second") / middle(name, "requests_per_second")
        yield Row(BENCH, case(OURS), f"over_{name}", over, "ratio")
        yield Row(BENCH, case(OURS), f"over_{name}_min", min(ratios), "ratio")
        yield Row(BENCH, case(OURS), f"over_{name}_max", max(ratios), "ratio")
        p99 = middle(OURS, "p99_ms") / middle(name, "p99_ms")
        yield Row(BENCH, case(OURS), f"p99_over_{name}", p99, "ratio")


def explaining(artifact: Path, folder: Path, effort: Effort) -> Iterator[Row]:
    """Explain beside predict at one connection, and ONNX Runtime alone on the same core."""
    with ExitStack() as stack:
        client = stack.enter_context(process(["-m", "benchmarks.load"], CLIENT_CORE))
        alone = stack.enter_context(process(["-m", "benchmarks.ort_time", str(artifact)], SERVERS_CORE))
        contender = stack.enter_context(ours(artifact))
        pause(contender.pid)
        for protocol in PROTOCOLS:
            kind, port = ("grpc" if protocol == "grpc" else "http"), contender.ports[protocol]
            explain_path = METHOD if protocol == "grpc" else EXPLAIN_PATH
            asked = {
                "predict": (_OUR_PATHS[protocol], bodies(folder)[protocol]),
                "explain": (explain_path, bodies(folder, explain=True)[protocol]),
            }
            found: dict[str, list[Measured]] = {verb: [] for verb in asked}
            bare: list[dict[str, float]] = []
            for _ in range(effort.rounds):
                for verb, (path, (body, headers)) in asked.items():
                    load = Load(kind, port, path, str(body), headers, 1, effort.seconds)
                    found[verb].append(turn(client, contender.pid, load))
                bare.append(tell(alone, f"{effort.seconds / 2}"))
            yield from explained(protocol, found, bare)


def explained(
    protocol: str, found: Mapping[str, list[Measured]], bare: list[dict[str, float]]
) -> Iterator[Row]:
    """Yield what an explanation costs, in the service and in ONNX Runtime alone."""
    case = f"{OURS}/{protocol}/explain/c1"
    for metric, unit in (("requests_per_second", "1/s"), ("p50_ms", "ms"), ("p99_ms", "ms")):
        yield Row(BENCH, case, metric, median(getattr(one, metric) for one in found["explain"]), unit)
    errors = sum(one.errors for rounds in found.values() for one in rounds)
    yield Row(BENCH, case, "error_count", errors, "requests")
    yield Row(BENCH, case, "predict_p50_ms", median(one.p50_ms for one in found["predict"]), "ms")
    for verb in ("predict", "explain"):
        yield Row(BENCH, case, f"ort_{verb}_ms", median(times[verb] for times in bare), "ms")
    extra = [
        (explain.p50_ms - predict.p50_ms) / times["predict"]
        for explain, predict, times in zip(found["explain"], found["predict"], bare, strict=True)
    ]
    yield Row(BENCH, case, "extra_over_ort_predict", median(extra), "ratio")


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Start, drive and explain."""
    del data
    effort = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        starters = contenders(folder)
        yield from starts(starters, folder, effort)
        for protocol in PROTOCOLS:
            yield from speeds(starters, protocol, folder, effort)
        yield from explaining(write_explained(folder / "explained"), folder, effort)
