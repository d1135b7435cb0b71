"""A server under test, and how it is called: nothing here knows which server it is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc

_DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(bool)": "BOOL"}
PATIENCE_S = 10.0
ADMIN_TOKEN = "conformance-admin-token"


class Oracle:
    """The served ONNX file, run directly."""

    def __init__(self, model: bytes) -> None:
        self._session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = (
            [
                {
                    "name": tensor.name,
                    "datatype": _DATATYPES[tensor.type],
                    "shape": [size if isinstance(size, int) else -1 for size in tensor.shape],
                }
                for tensor in tensors
            ]
            for tensors in (self._session.get_inputs(), self._session.get_outputs())
        )

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        values: NDArray[Any] = self._session.run(None, {self.inputs[0]["name"]: x})[0]
        return values


@dataclass
class Target:
    """Where a server is, which model it serves, and what else may be asked of it.

    Attributes
    ----------
    oracle : what the model computes
    start : starts another server of the same kind with other settings; None where the suite may not
    extra : whether the further models of ``models.write_models`` are there
    explains : whether there is an explain verb
    models : the served folder, where it is ours
    """

    url: str
    grpc_address: str | None
    model: str
    oracle: Oracle
    admin_url: str | None = None
    admin_token: str = ""
    start: Callable[..., Any] | None = None
    extra: bool = False
    explains: bool = False
    models: Path | None = None
    pid: int | None = None
    _open: list[Any] = field(default_factory=list)

    @cached_property
    def http(self) -> httpx.Client:
        """The REST port; of a server that is not ours, by a new connection each time.

        Some close a connection after an internal error without saying so, and a request that meets the end of it
        would fail for what another asked.
        """
        limits = httpx.Limits(max_keepalive_connections=0) if self.start is None else httpx.Limits()
        client = httpx.Client(base_url=self.url, timeout=PATIENCE_S, limits=limits)
        self._open.append(client)
        return client

    @cached_property
    def admin(self) -> httpx.Client:
        """The port of the repository verbs."""
        headers = {"Authorization": f"Bearer {self.admin_token}"} if self.admin_token else {}
        limits = httpx.Limits(max_keepalive_connections=0) if self.start is None else httpx.Limits()
        url = self.admin_url or self.url
        client = httpx.Client(base_url=url, timeout=PATIENCE_S, headers=headers, limits=limits)
        self._open.append(client)
        return client

    @cached_property
    def channel(self) -> grpc.Channel:
        """The gRPC port."""
        assert self.grpc_address is not None, "The server has no gRPC address."
        channel = grpc.insecure_channel(self.grpc_address)
        self._open.append(channel)
        return channel

    @cached_property
    def stub(self) -> Any:
        """The Open Inference Protocol's methods."""
        return oip_grpc.GRPCInferenceServiceStub(self.channel)  # type: ignore[no-untyped-call]  # generated

    @property
    def path(self) -> str:
        return f"/v2/models/{self.model}"

    @property
    def infer(self) -> str:
        return f"{self.path}/infer"

    @property
    def explain(self) -> str:
        return f"{self.path}/explain"

    @cached_property
    def x(self) -> NDArray[Any]:
        """Two rows of input."""
        shape = [2, *self.oracle.inputs[0]["shape"][1:]]
        return np.random.default_rng(1).standard_normal(shape).astype(np.float32)

    @property
    def can(self) -> set[str]:
        """What cases may need: see ``cases.Case``."""
        found = {"grpc"} if self.grpc_address else set()
        found |= {"start"} if self.start else set()
        found |= {"extra"} if self.extra else set()
        found |= {"explain"} if self.explains else set()
        # A server that keeps these verbs elsewhere has to say where; one that has them not fails their cases.
        found |= {"repository"} if self.start is None or self.admin_url else set()
        return found

    def close(self) -> None:
        """Hang up."""
        for client in self._open:
            client.close()


@dataclass
class Server:
    """A server of ours in a process of its own, and how to call it."""

    process: subprocess.Popen[str]
    target: Target


SERVE = "import sys; from clearweight.service.serve import serve; from clearweight.service.settings import Settings\n"


@contextmanager
def served(models: Path, oracle: Oracle, model: str, **settings: Any) -> Iterator[Server]:
    """Start our server on free ports, with every verb switched on; SIGTERM ends it."""
    given = {"models": str(models), "http_port": 0, "grpc_port": 0, **_admin(), **settings}
    code = f"{SERVE}serve(Settings(**{given!r}))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        admin = first.get("admin_port")
        target = Target(
            url=f"http://127.0.0.1:{first['http_port']}",
            grpc_address=f"127.0.0.1:{first['grpc_port']}",
            model=model,
            oracle=oracle,
            admin_url=f"http://127.0.0.1:{admin}" if admin else None,
            admin_token=ADMIN_TOKEN,
            start=lambda directory=models, **other: served(directory, oracle, model, **other),
            extra=True,
            explains=True,
            models=models,
            pid=process.pid,
        )
        try:
            yield Server(process, target)
        finally:
            target.close()
            process.terminate()
            process.communicate(timeout=60)


def _admin() -> dict[str, Any]:
    return {"admin_port": 0, "admin_tokens": ADMIN_TOKEN}
