"""A thin client: predict, explain and watch over REST or gRPC, with numpy and httpx alone (gRPC: grpcio).

It imports nothing of the rest of the project.
"""

from clearweight.client.client import AsyncClient, Client
from clearweight.client.errors import (
    ClientError,
    DeadlineError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    ServerError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnreachableError,
    UnsupportedError,
)
from clearweight.client.operation import Explanation, ModelMetadata, Prediction, RankedClass, TensorSpec

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "DeadlineError",
    "Explanation",
    "ForbiddenError",
    "InvalidRequestError",
    "ModelMetadata",
    "NotFoundError",
    "OverloadedError",
    "Prediction",
    "RankedClass",
    "ServerError",
    "TensorSpec",
    "TooLargeError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnreachableError",
    "UnsupportedError",
]
