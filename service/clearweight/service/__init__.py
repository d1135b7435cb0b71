"""Predict and explain from a compressed artifact, and watch its explanations.

In process this needs numpy and ONNX Runtime alone; the server's parts (``clearweight.service.serve`` and below)
are imported only when asked for.
"""

import os

# Before the first import of ONNX Runtime, or it has written an identifier of this device and opened a connection
# (1.29 and newer); disable_telemetry_events() comes too late for that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

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
