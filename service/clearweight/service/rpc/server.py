"""The gRPC server: both services, standard health and reflection, on one port."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from clearweight.service.access import Access
from clearweight.service.core.dataplane import Dataplane
from clearweight.service.core.errors import LoadError
from clearweight.service.rpc.edge import Edge
from clearweight.service.rpc.explain import ExplainServicer
from clearweight.service.rpc.generated import (
    explain_pb2,
    explain_pb2_grpc,
    open_inference_pb2,
    open_inference_pb2_grpc,
)
from clearweight.service.rpc.oip import InferenceServicer

SERVICES = (
    open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
    explain_pb2.DESCRIPTOR.services_by_name["ExplainService"].full_name,
)
# Generated code carries no types.
_ADD_INFERENCE: Any = open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server
_ADD_EXPLAIN: Any = explain_pb2_grpc.add_ExplainServiceServicer_to_server
_FRAME = 64 * 1024
_STREAMS = 128
"""Calls that one connection may run at a time."""
_HEALTH_SECONDS = 1.0
_SILENCE = 0.1


class RpcServer:
    """A grpc.aio server over a dataplane, in the running event loop.

    Parameters
    ----------
    address : str
        ``host:port``; port 0 takes a free one, told by ``port``.
    edge : Edge, optional
        What every call passes; default one that lets everyone in.
    credentials : ServerCredentials, optional
        With them the port speaks TLS and nothing else.
    connections : int
        Most connections at a time.
    """

    def __init__(
        self,
        plane: Dataplane,
        address: str,
        edge: Edge | None = None,
        *,
        credentials: grpc.ServerCredentials | None = None,
        connections: int = 1000,
    ) -> None:
        self._plane = plane
        # A message is a body and a little framing; both transports share one limit.
        longest = plane.engine.options.limits.body_bytes + _FRAME
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", longest),
                ("grpc.max_send_message_length", longest),
                ("grpc.so_reuseport", 0),
                ("grpc.max_allowed_incoming_connections", connections),
                ("grpc.max_concurrent_streams", _STREAMS),
                ("grpc.server_handshake_timeout_ms", 10_000),
            ],
        )
        edge = edge or Edge(Access())
        _ADD_INFERENCE(InferenceServicer(plane), edge)
        _ADD_EXPLAIN(ExplainServicer(plane), edge)
        self._health: Any = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, edge)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(ReflectionServicer(names), edge)
        self._server.add_generic_rpc_handlers((edge,))
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise LoadError(f"Cannot listen for gRPC on {address}: {error}.") from error
        self._reporter: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept calls and keep the health service true."""
        self._plane.refused.discard("grpc")
        await self.report()
        await self._server.start()
        self._reporter = asyncio.create_task(self._report())

    async def report(self) -> None:
        """Tell the health service whether the dataplane is ready, now."""
        status = health_pb2.HealthCheckResponse
        state = status.SERVING if self._plane.ready else status.NOT_SERVING
        for service in ("", *SERVICES):
            await self._health.set(service, state)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_SECONDS)
            await self.report()

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let running ones finish within ``grace`` seconds."""
        if self._reporter is not None:
            self._reporter.cancel()
        # A call that arrives at the very moment of the stop would be cancelled without a word. So calls are first
        # refused one by one, with UNAVAILABLE, which sends callers elsewhere, until no more come.
        self._plane.refused.add("grpc")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._silence(), grace)
        await self._server.stop(grace)

    async def _silence(self) -> None:
        since = time.monotonic()
        while time.monotonic() - max(since, self._plane.last_call["grpc"]) < _SILENCE:  # noqa: ASYNC110  # time itself is awaited
            await asyncio.sleep(_SILENCE / 5)
