"""Compress a classifier that was never in torch: from an ONNX file and unlabelled inputs, without training."""

from clearweight.exporter.post_training.budget import Budget, Found, search
from clearweight.exporter.post_training.compress import Compressed, Statistics, compress, gather

__all__ = ["Budget", "Compressed", "Found", "Statistics", "compress", "gather", "search"]
