"""gRPC over the core: Open Inference Protocol, our own explain service, health, reflection."""

from clearweight.service.rpc.edge import Edge
from clearweight.service.rpc.errors import CODES
from clearweight.service.rpc.server import RpcServer

__all__ = ["CODES", "Edge", "RpcServer"]
