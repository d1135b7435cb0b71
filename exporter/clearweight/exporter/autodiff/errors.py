"""What can go wrong while differentiating an ONNX graph.

::

    ExporterError
    └── AutodiffError
        ├── UnsupportedOpError (NotImplementedError)   no VJP rule for this operator, or for this use of it
        ├── UnknownShapeError (ValueError)             a rule needs a size that the graph leaves open
        └── UnknownValueError (KeyError)               a value that was asked for is not in the graph
"""

from clearweight.exporter.errors import ExporterError


class AutodiffError(ExporterError):
    """Root of every error that differentiation raises on purpose."""


class UnsupportedOpError(AutodiffError, NotImplementedError):
    """No VJP rule for this operator, or for this use of it."""


class UnknownShapeError(AutodiffError, ValueError):
    """A rule needs a size that the graph leaves open."""


class UnknownValueError(AutodiffError, KeyError):
    """A value that was asked for is not in the graph."""

    def __str__(self) -> str:
        return str(self.args[0])
