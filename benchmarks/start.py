"""From ``kill -9`` and restart to the first answer, and what the service holds in memory then, in both memory modes.

The small CNN with its 24 thousand parameters, and the same made as wide as it takes to have the parameters of
MobileNetV2 (3.5 million) and of VGG-16 (138 million), nine in ten of them pruned and the others in sixteen shared
values, because decoding is what takes the time. ``cold_start_s`` runs from the start of the process to the first 200.
"""

import signal
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from benchmarks.row import Row
from benchmarks.served_cnn import PATH, bodies, write_cnn
from benchmarks.server_process import ports, process, resident_bytes, service

BENCH = "start"
WIDTHS = {"small": 16, "mobilenet_v2": 197, "vgg_16": 1238}
"""Width of the CNN that has as many parameters: 90 x width^2, in round figures."""
_ROUNDS, _QUICK_ROUNDS = 5, 2


def _answers(port: int, body: bytes, headers: dict[str, str]) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", PATH, body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status == 200


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Start, ask, look, kill; again and again."""
    del data
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        body, headers = bodies(folder)["rest_binary"]
        for case, width in WIDTHS.items():
            if quick and case == "vgg_16":
                continue
            artifact = write_cnn(folder / case, width, compress=width > WIDTHS["small"])
            for memory in ("fast", "saving"):
                seconds, resident = [], []
                for _ in range(_QUICK_ROUNDS if quick else _ROUNDS):
                    started = time.perf_counter()
                    with process(service(artifact, memory=memory), 0) as server:
                        port = ports(server)["rest_binary"]
                        if not _answers(port, body.read_bytes(), headers):
                            raise RuntimeError(f"The first request to {case} failed.")
                        seconds.append(time.perf_counter() - started)
                        resident.append(resident_bytes(server.pid))
                        server.send_signal(signal.SIGKILL)
                yield Row(BENCH, f"{case}/{memory}", "cold_start_s", median(seconds), "s")
                yield Row(BENCH, f"{case}/{memory}", "rss_mb", median(resident) / 1e6, "MB")
