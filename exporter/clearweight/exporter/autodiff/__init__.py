"""Differentiate ONNX graphs: ONNX in, ONNX out, standard operators only, no torch."""

from clearweight.exporter.autodiff.cost import COMMITTED, CostTable
from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.errors import (
    AutodiffError,
    UnknownShapeError,
    UnknownValueError,
    UnsupportedOpError,
)
from clearweight.exporter.autodiff.graph import MIN_OPSET, Graph
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.op_key import OpKey, op_key
from clearweight.exporter.autodiff.rules import MAX_OPSET, NON_DIFFERENTIABLE, RULES
from clearweight.exporter.autodiff.unsupported import UNSUPPORTED
from clearweight.exporter.autodiff.value_type import Shape, ValueType
from clearweight.exporter.autodiff.walker import pull_back

__all__ = [
    "COMMITTED",
    "MAX_OPSET",
    "MIN_OPSET",
    "NON_DIFFERENTIABLE",
    "RULES",
    "UNSUPPORTED",
    "AutodiffError",
    "CostTable",
    "Emit",
    "Graph",
    "Node",
    "OpKey",
    "Shape",
    "UnknownShapeError",
    "UnknownValueError",
    "UnsupportedOpError",
    "ValueType",
    "op_key",
    "pull_back",
]
