"""Compress a trained torch classifier while its explanations stay the same (offline; torch lives here)."""

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
