"""From a torch module, or a user's ONNX file, to the canonical ONNX graph and its plain ONNX variants."""

from clearweight.exporter.graph.canonical import IR_VERSION, OPSET, canonicalize
from clearweight.exporter.graph.errors import (
    FoldingError,
    GraphError,
    ParameterError,
    TorchExportError,
    UnsupportedModelError,
)
from clearweight.exporter.graph.fold import fold_batchnorm
from clearweight.exporter.graph.int8 import int8_onnx
from clearweight.exporter.graph.naming import layer_output
from clearweight.exporter.graph.parameters import embed_parameters, split_parameters
from clearweight.exporter.graph.plain import without_parametrizations
from clearweight.exporter.graph.session import session
from clearweight.exporter.graph.sparse import sparse_onnx
from clearweight.exporter.graph.torch_export import to_onnx

__all__ = [
    "IR_VERSION",
    "OPSET",
    "FoldingError",
    "GraphError",
    "ParameterError",
    "TorchExportError",
    "UnsupportedModelError",
    "canonicalize",
    "embed_parameters",
    "fold_batchnorm",
    "int8_onnx",
    "layer_output",
    "session",
    "sparse_onnx",
    "split_parameters",
    "to_onnx",
    "without_parametrizations",
]
