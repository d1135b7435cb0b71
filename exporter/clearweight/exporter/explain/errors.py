"""What can go wrong while building or verifying an explain graph.

::

    ExporterError
    └── ExplainError
        ├── UnknownMethodError (KeyError)       no explainer of that name
        ├── NotApplicableError (ValueError)     the method does not work on this network
        └── VerificationError (RuntimeError)    the graph's maps are not what they should be
"""

from clearweight.exporter.errors import ExporterError


class ExplainError(ExporterError):
    """Root of every error that explaining raises on purpose."""


class UnknownMethodError(ExplainError, KeyError):
    """No explainer of that name."""

    def __str__(self) -> str:
        return str(self.args[0])


class NotApplicableError(ExplainError, ValueError):
    """The method does not work on this network."""


class VerificationError(ExplainError, RuntimeError):
    """The graph's maps are not what they should be."""
