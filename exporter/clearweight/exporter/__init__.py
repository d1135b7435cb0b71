"""Compress a trained torch classifier while its explanations stay the same (offline; torch lives here)."""

import os

# Before the first import of ONNX Runtime, or it has written an identifier of this device and opened a connection
# (1.29 and newer); disable_telemetry_events() comes too late for that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from clearweight.exporter.errors import (
    ConstraintError,
    DataError,
    ExporterError,
    RecipeError,
    SourceError,
    SplitError,
    StepError,
)

__all__ = [
    "ConstraintError",
    "DataError",
    "ExporterError",
    "RecipeError",
    "SourceError",
    "SplitError",
    "StepError",
]
