"""The weights of a canonical graph as matrices: one row per output, one column per input that a row multiplies."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from clearweight.exporter.autodiff.node import read_attributes

# Places of one input that a convolution's statistics look at: neighbours say nearly the same.
MOST_PLACES = 256


@dataclass(frozen=True)
class Layer:
    """One matrix product or convolution with a weight of its own.

    Attributes
    ----------
    weight, bias : names of the parameters; no bias: None
    x, y : names of the values that go in and come out
    shape : of the weight
    """

    op: str
    weight: str
    bias: str | None
    x: str
    y: str
    shape: tuple[int, ...]
    attributes: dict[str, Any]

    @property
    def turned(self) -> bool:
        """Whether the weight holds inputs by outputs."""
        return self.op == "MatMul" or (self.op == "Gemm" and not self.attributes.get("transB", 0))

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Outputs and columns."""
        if self.turned:
            return self.shape[1], self.shape[0]
        return self.shape[0], math.prod(self.shape[1:])

    def matrix(self, weight: NDArray[Any]) -> NDArray[Any]:
        """Return a weight as (outputs, columns)."""
        return weight.T if self.turned else weight.reshape(len(weight), -1)

    def tensor(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return a matrix in the weight's own shape."""
        return np.ascontiguousarray(matrix.T if self.turned else matrix.reshape(self.shape))

    def columns(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the rows of the matrix multiply, (places, columns): every input, or patches of every input."""
        if self.op != "Conv":
            return x.reshape(-1, x.shape[-1])
        patches = _patches(x, self.shape[2:], self.attributes)
        groups = self.attributes.get("group", 1)
        rows, channels = patches.shape[:2]
        # The matrix of a grouped convolution has the columns of one group: all groups' patches are pooled.
        return patches.reshape(rows * groups, channels // groups * math.prod(self.shape[2:]))

    def rows(self, dy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return output gradients as (samples, places, outputs)."""
        if self.op == "Conv":
            return np.moveaxis(dy.reshape(*dy.shape[:2], -1), 1, 2)
        return dy.reshape(len(dy), -1, dy.shape[-1])


def _patches(
    x: NDArray[np.float32], kernel: Sequence[int], attributes: dict[str, Any]
) -> NDArray[np.float32]:
    """Return (samples * places, channels, *kernel), the places thinned out evenly."""
    axes = len(kernel)
    strides = attributes.get("strides", [1] * axes)
    dilations = attributes.get("dilations", [1] * axes)
    spread = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = attributes.get("pads", [0] * 2 * axes)
    if attributes.get("auto_pad", "NOTSET").startswith("SAME"):
        whole = [
            max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(x.shape[2:], strides, spread, strict=True)
        ]
        upper = attributes["auto_pad"] == "SAME_UPPER"
        pads = [w // 2 if upper else -(-w // 2) for w in whole] + [
            -(-w // 2) if upper else w // 2 for w in whole
        ]
    padded = np.pad(x, [(0, 0), (0, 0), *((pads[i], pads[i + axes]) for i in range(axes))])
    windows = sliding_window_view(padded, spread, axis=tuple(range(2, 2 + axes)))
    places = [-(-n // s) for n, s in zip(windows.shape[2 : 2 + axes], strides, strict=True)]
    thin = (
        math.ceil((math.prod(places) / MOST_PLACES) ** (1 / axes)) if math.prod(places) > MOST_PLACES else 1
    )
    steps = tuple(slice(None, None, s * thin) for s in strides)
    taps = tuple(slice(None, None, d) for d in dilations)
    chosen = windows[(slice(None), slice(None), *steps, *taps)]
    return np.moveaxis(chosen, 1, 1 + axes).reshape(-1, x.shape[1], *kernel)


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """List the layers of a canonical graph, in its order; a weight that two nodes read is listed once."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    seen: set[str] = set()
    found = []
    for layer in _candidates(model, shapes):
        if layer.weight not in seen and len(layer.shape) > 1 and layer.x not in shapes:
            seen.add(layer.weight)
            found.append(layer)
    return found


def _candidates(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> Iterator[Layer]:
    for node in model.graph.node:
        if node.op_type not in {"Conv", "Gemm", "MatMul"} or node.input[1] not in shapes:
            continue
        attributes = read_attributes(node)
        if attributes.get("transA", 0) or (node.op_type == "MatMul" and len(shapes[node.input[1]]) != 2):
            continue
        bias = node.input[2] if len(node.input) > 2 and node.input[2] in shapes else None
        yield Layer(
            node.op_type,
            node.input[1],
            bias,
            node.input[0],
            node.output[0],
            shapes[node.input[1]],
            attributes,
        )
