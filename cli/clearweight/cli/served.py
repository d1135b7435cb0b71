"""A served model as its callers see it: a `clearweight serve` process, called over REST and over gRPC."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray

from clearweight.cli.failure import stop

DATATYPES = {"FP32": "<f4", "INT64": "<i8"}
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Server:
    """A running service.

    Attributes
    ----------
    http_port, grpc_port : where it listens on the loopback address
    """

    http_port: int
    grpc_port: int

    @property
    def url(self) -> str:
        """Where REST is."""
        return f"http://127.0.0.1:{self.http_port}"


@contextmanager
def serving(models: Path, **settings: str) -> Iterator[Server]:
    """Run ``clearweight serve`` on free ports; SIGTERM ends it.

    Parameters
    ----------
    settings : environment of the service, without its prefix, such as ``shadow="1"``
    """
    chosen = {f"CLEARWEIGHT_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "clearweight.cli.main", "serve", str(models)]
    command += ["--http-port", "0", "--grpc-port", "0"]
    with subprocess.Popen(  # noqa: S603 - our own command with paths as arguments, no shell
        command, stdout=subprocess.PIPE, text=True, env=os.environ | chosen
    ) as process:
        try:
            first = process.stdout.readline() if process.stdout else ""
            if not first:
                stop(f"The service ended with exit code {process.wait()} before it was ready.")
            ports = json.loads(first)
            yield Server(ports["http_port"], ports["grpc_port"])
        finally:
            process.terminate()


def get(url: str) -> Any:
    """Return the JSON answer to a GET."""
    with urlopen(url, timeout=PATIENCE_S) as reply:  # noqa: S310 - always our own http address
        return json.loads(reply.read())


def body_of(inputs: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the Open Inference Protocol's JSON body for raw images."""
    tensor = {
        "name": "input",
        "datatype": "UINT8",
        "shape": list(inputs.shape),
        "data": inputs.ravel().tolist(),
    }
    return {"inputs": [tensor]}


def rest(server: Server, model: str, verb: str, inputs: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Call ``infer`` or ``explain`` over REST and return the output tensors by name."""
    request = Request(  # noqa: S310 - always our own http address
        f"{server.url}/v2/models/{model}/{verb}",
        json.dumps(body_of(inputs)).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=PATIENCE_S) as reply:  # noqa: S310 - as above
        outputs = json.loads(reply.read())["outputs"]
    return {
        tensor["name"]: np.asarray(tensor["data"], DATATYPES[tensor["datatype"]]).reshape(tensor["shape"])
        for tensor in outputs
    }


def rpc(server: Server, model: str, verb: str, inputs: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Call the same over gRPC: ``infer`` is the Open Inference Protocol's, ``explain`` our own service's."""
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        return _infer(channel, model, inputs) if verb == "infer" else _explain(channel, model, inputs)


def _infer(channel: Any, model: str, inputs: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    from clearweight.service.rpc.generated import open_inference_pb2, open_inference_pb2_grpc

    request = open_inference_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="input", datatype="UINT8", shape=inputs.shape)
    request.raw_input_contents.append(inputs.tobytes())
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
    reply = stub.ModelInfer(request, timeout=PATIENCE_S)
    return {
        tensor.name: np.frombuffer(raw, DATATYPES[tensor.datatype]).reshape(tensor.shape)
        for tensor, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)
    }


def _explain(channel: Any, model: str, inputs: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    from clearweight.service.rpc.generated import explain_pb2, explain_pb2_grpc

    request = explain_pb2.ExplainRequest(model=model)
    request.inputs.add(name="input", datatype="UINT8", shape=inputs.shape, raw=inputs.tobytes())
    stub = explain_pb2_grpc.ExplainServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
    reply = stub.Explain(request, timeout=PATIENCE_S)
    return {
        tensor.name: np.frombuffer(tensor.raw, DATATYPES[tensor.datatype]).reshape(tensor.shape)
        for tensor in reply.outputs
    }
