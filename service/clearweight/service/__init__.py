"""Predict and explain from a compressed artifact, and watch its explanations.

In process this needs numpy and ONNX Runtime alone; the server's parts (``clearweight.service.serve`` and below)
are imported only when asked for.
"""

from clearweight.service.core.engine import Engine
from clearweight.service.core.errors import (
    CallerGoneError,
    DeadlineExceededError,
    ForbiddenError,
    InternalError,
    InvalidRequestError,
    LoadError,
    MediaTypeError,
    NonFiniteOutputError,
    NotFoundError,
    QueueFullError,
    ServiceError,
    SlowRequestError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from clearweight.service.core.options import EngineOptions
from clearweight.service.core.types import (
    Explanation,
    Limits,
    ModelHealth,
    ModelMetadata,
    ModelState,
    Prediction,
)
from clearweight.service.drift import DriftReport, FidelityReport, IntegrityReport

__all__ = [
    "CallerGoneError",
    "DeadlineExceededError",
    "DriftReport",
    "Engine",
    "EngineOptions",
    "Explanation",
    "FidelityReport",
    "ForbiddenError",
    "IntegrityReport",
    "InternalError",
    "InvalidRequestError",
    "Limits",
    "LoadError",
    "MediaTypeError",
    "ModelHealth",
    "ModelMetadata",
    "ModelState",
    "NonFiniteOutputError",
    "NotFoundError",
    "Prediction",
    "QueueFullError",
    "ServiceError",
    "SlowRequestError",
    "TooLargeError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
]
