"""What can go wrong between a torch module or a user's ONNX file and the canonical graph.

::

    ExporterError
    └── GraphError
        ├── FoldingError (ValueError)          a BatchNorm cannot be found or merged
        ├── TorchExportError (RuntimeError)    torch.onnx could not translate the module
        ├── OnnxFileError (ValueError)         a file is no ONNX model, or not a whole one
        ├── UnsupportedModelError (ValueError) the ONNX model is outside the canonical form
        └── ParameterError (ValueError)        parameters are missing, unknown or ill-shaped
"""

from clearweight.exporter.errors import ExporterError


class GraphError(ExporterError):
    """Root of what this package raises on purpose."""


class FoldingError(GraphError, ValueError):
    """A BatchNorm cannot be found or merged."""


class TorchExportError(GraphError, RuntimeError):
    """torch.onnx could not translate the module."""


class OnnxFileError(GraphError, ValueError):
    """A file is no ONNX model, or not a whole one."""


class UnsupportedModelError(GraphError, ValueError):
    """The ONNX model is outside the canonical form."""


class ParameterError(GraphError, ValueError):
    """Parameters are missing, unknown or ill-shaped."""
