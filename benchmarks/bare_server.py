"""The floor of the service benchmarks: bare handlers over the same session, without a single check.

``python -m benchmarks.bare_server ARTIFACT`` prints its ports as one JSON line and serves until it is terminated.
"""

import asyncio
import json
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response

from clearweight.artifact import Artifact
from clearweight.service.core.session import Session
from clearweight.service.core.weights import OwnWeights
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc


def application(session: Session) -> FastAPI:
    """Build a FastAPI application with one handler per body form."""
    app = FastAPI()
    name, output = session.inputs[0], session.outputs[0]

    @app.post("/json")
    async def over_json(request: Request) -> Response:
        tensor = orjson.loads(await request.body())["inputs"][0]
        x = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        (y,) = session.run({name: x})
        reply = {"outputs": [{"name": output, "shape": y.shape, "datatype": "FP32", "data": y.ravel()}]}
        return Response(orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    @app.post("/binary")
    async def over_binary(request: Request) -> Response:
        body = await request.body()
        length = int(request.headers["inference-header-content-length"])
        tensor = orjson.loads(body[:length])["inputs"][0]
        x = np.frombuffer(body, np.float32, offset=length).reshape(tensor["shape"])
        (y,) = session.run({name: x})
        raw = y.tobytes()
        parameters = {"binary_data_size": len(raw)}
        tensors = [{"name": output, "shape": y.shape, "datatype": "FP32", "parameters": parameters}]
        head = orjson.dumps({"outputs": tensors})
        return Response(
            head + raw,
            headers={"Inference-Header-Content-Length": str(len(head))},
            media_type="application/octet-stream",
        )

    return app


class Servicer(oip_grpc.GRPCInferenceServiceServicer):
    """ModelInfer with raw tensors and nothing else."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._name, self._output = session.inputs[0], session.outputs[0]

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Any) -> oip.ModelInferResponse:  # noqa: N802  # the protocol's name
        """Predict."""
        del context
        shape = tuple(request.inputs[0].shape)
        x = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(shape)
        (y,) = self._session.run({self._name: x})
        reply = oip.ModelInferResponse(raw_output_contents=[y.tobytes()])
        reply.outputs.add(name=self._output, datatype="FP32", shape=y.shape)
        return reply


class _Http(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Any:
        """Leave the signals to ``main``."""
        yield


async def serve(artifact: Artifact) -> None:
    """Serve both transports until SIGTERM."""
    session = Session(artifact.graph("predict.onnx"), OwnWeights(artifact.weights), threads=1)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    rpc = grpc.aio.server()
    add: Any = oip_grpc.add_GRPCInferenceServiceServicer_to_server
    add(Servicer(session), rpc)
    grpc_port = rpc.add_insecure_port("127.0.0.1:0")
    await rpc.start()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application(session),
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
    )
    http = _Http(config)
    web = asyncio.create_task(http.serve(sockets=[listener]))
    print(json.dumps({"http_port": listener.getsockname()[1], "grpc_port": grpc_port}), flush=True)
    await stop.wait()
    http.should_exit = True
    await asyncio.gather(web, rpc.stop(1))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Artifact.open(Path(sys.argv[1]))))
