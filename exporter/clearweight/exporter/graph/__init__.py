"""From a torch module, or a user's ONNX file, to the canonical ONNX graph and its plain ONNX variants.

What starts from a torch module loads torch, and only when it is asked for: a user's ONNX file needs none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clearweight.exporter.graph.adaptation import Adaptation, adapt
from clearweight.exporter.graph.canonical import IR_VERSION, OPSET, canonicalize
from clearweight.exporter.graph.errors import (
    FoldingError,
    GraphError,
    OnnxFileError,
    ParameterError,
    TorchExportError,
    UnsupportedModelError,
)
from clearweight.exporter.graph.int8 import int8_onnx
from clearweight.exporter.graph.matmul_nbits import standard_operators
from clearweight.exporter.graph.naming import layer_output
from clearweight.exporter.graph.parameters import embed_parameters, split_parameters
from clearweight.exporter.graph.session import session
from clearweight.exporter.graph.sparse import sparse_onnx
from clearweight.exporter.graph.weight_only import weight_only, weights_of

if TYPE_CHECKING:
    from clearweight.exporter.graph.fold import fold_batchnorm
    from clearweight.exporter.graph.plain import without_parametrizations
    from clearweight.exporter.graph.torch_export import to_onnx

# Name -> the module that brings it, and torch with it.
_WITH_TORCH = {
    "fold_batchnorm": "fold",
    "to_onnx": "torch_export",
    "without_parametrizations": "plain",
}

__all__ = [
    "IR_VERSION",
    "OPSET",
    "Adaptation",
    "FoldingError",
    "GraphError",
    "OnnxFileError",
    "ParameterError",
    "TorchExportError",
    "UnsupportedModelError",
    "adapt",
    "canonicalize",
    "embed_parameters",
    "fold_batchnorm",
    "int8_onnx",
    "layer_output",
    "session",
    "sparse_onnx",
    "split_parameters",
    "standard_operators",
    "to_onnx",
    "weight_only",
    "weights_of",
    "without_parametrizations",
]


def __getattr__(name: str) -> Any:
    """Load what needs torch on its first use."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
