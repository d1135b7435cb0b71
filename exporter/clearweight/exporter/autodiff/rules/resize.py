"""VJP rule of resizing.

Resize is linear and works on each axis by itself, so its gradient is the transposed interpolation matrix of every axis.
The matrices follow ONNX's definition of Resize (coordinate_transformation_mode, nearest_mode); whole repetition, the
common case of nearest neighbours, is summed by average pooling instead.
"""

import numpy as np
from numpy.typing import NDArray

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients

Matrix = NDArray[np.float64]


def resize_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = A x B^T, one interpolation matrix per axis;  dx = A^T dy B``; nearest, linear and cubic."""
    x = node.inputs[0]
    rank = emit.rank(x)
    listed = node.attributes.get("axes", list(range(rank)))
    axes = [int(axis) % rank for axis in listed]
    scales = _scales(emit, node, axes)
    matrices = {}
    for axis, scale in zip(axes, scales, strict=True):
        if scale == 1.0:  # then no mode moves anything, and the axis may be open
            continue
        (size_in,), (size_out,) = emit.sizes(x, [axis], node), emit.sizes(node.outputs[0], [axis], node)
        matrix = interpolation(emit, node, size_in, size_out, scale)
        if not np.array_equal(matrix, np.eye(size_in)):
            matrices[axis] = matrix
    repeats = {axis: _repeats(matrix) for axis, matrix in matrices.items()}
    if matrices and min(matrices) >= 2 and rank > 2 and all(repeats.values()):
        return _first(node, _pooled(emit, dy, [repeats.get(axis) or 1 for axis in range(2, rank)], x))
    for axis, matrix in matrices.items():
        dy = emit.along_axis(dy, matrix.T, axis)
    return _first(node, emit.graph.narrow(dy, emit.shape(x)))


def _first(node: Node, dx: str) -> Gradients:
    return (dx, *(None for _ in node.inputs[1:]))


def _scales(emit: Emit, node: Node, axes: list[int]) -> list[float]:
    """Read the scale of each axis, or compute it from the sizes where those are given."""
    if str(node.attributes.get("keep_aspect_ratio_policy", "stretch")) != "stretch":
        emit.unsupported(node, "keep_aspect_ratio_policy is set, expected 'stretch'")
    if node.input(2) is not None:
        given = emit.setting(node, 2)
        if given is not None and given.size:
            return [float(scale) for scale in np.asarray(given)]
    x, y = node.inputs[0], node.outputs[0]
    found = []
    for axis in axes:
        if emit.shape(x)[axis] is not None and emit.shape(x)[axis] == emit.shape(y)[axis]:
            found.append(1.0)
            continue
        (size_in,), (size_out,) = emit.sizes(x, [axis], node), emit.sizes(y, [axis], node)
        found.append(size_out / size_in)
    return found


def interpolation(emit: Emit, node: Node, size_in: int, size_out: int, scale: float) -> Matrix:
    """Return the matrix of one axis, (size_out, size_in)."""
    attributes = node.attributes
    mode = str(attributes.get("mode", "nearest"))
    if mode not in {"nearest", "linear", "cubic"}:
        emit.unsupported(node, f"mode is {mode!r}, expected 'nearest', 'linear' or 'cubic'")
    if int(attributes.get("antialias", 0)) and scale < 1:
        emit.unsupported(node, "antialias is on")
    places = _source(emit, node, np.arange(size_out, dtype=np.float64), size_in, size_out, scale)
    if mode == "nearest":
        picked = _nearest(emit, node, places)
        return np.asarray(np.eye(size_in)[np.clip(picked, 0, size_in - 1)])
    lower = np.floor(places).astype(int)
    share = places - lower
    if mode == "linear":
        weights = {0: 1 - share, 1: share}
    else:
        steep = float(attributes.get("cubic_coeff_a", -0.75))
        weights = {offset: _cubic(np.abs(offset - share), steep) for offset in (-1, 0, 1, 2)}
    outside = bool(int(attributes.get("exclude_outside", 0)))
    matrix = np.zeros((size_out, size_in))
    rows = np.arange(size_out)
    for offset, weight in weights.items():
        read = lower + offset
        kept = np.where((read >= 0) & (read < size_in), weight, 0.0) if outside else weight
        np.add.at(matrix, (rows, np.clip(read, 0, size_in - 1)), kept)
    return matrix / matrix.sum(1, keepdims=True) if outside else matrix


def _cubic(distance: Matrix, steep: float) -> Matrix:
    """Weigh samples by their distance of less than 2 (Keys, IEEE ASSP 1981, equation 15)."""
    near = ((steep + 2) * distance - (steep + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * steep - 4 * steep
    return np.where(distance <= 1, near, far)


def _source(emit: Emit, node: Node, out: Matrix, size_in: int, size_out: int, scale: float) -> Matrix:
    """Map places of the output to places of the input."""
    mode = str(node.attributes.get("coordinate_transformation_mode", "half_pixel"))
    if mode == "half_pixel":
        return (out + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return (out + 0.5) / scale - 0.5 if size_out > 1 else np.zeros_like(out)
    if mode == "half_pixel_symmetric":
        adjustment = size_out / (scale * size_in)
        return size_in / 2 * (1 - adjustment) + (out + 0.5) / scale - 0.5
    if mode == "align_corners":
        return out * (size_in - 1) / (size_out - 1) if size_out > 1 else np.zeros_like(out)
    if mode != "asymmetric":
        emit.unsupported(node, f"coordinate_transformation_mode is {mode!r}")
    return out / scale


def _nearest(emit: Emit, node: Node, places: Matrix) -> NDArray[np.intp]:
    mode = str(node.attributes.get("nearest_mode", "round_prefer_floor"))
    rounded = {
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5),
        "floor": np.floor(places),
        "ceil": np.ceil(places),
    }
    if mode not in rounded:
        emit.unsupported(node, f"nearest_mode is {mode!r}")
    return rounded[mode].astype(np.intp)


def _repeats(matrix: Matrix) -> int | None:
    """Return how often each element is repeated, None where the matrix does anything else."""
    size_out, size_in = matrix.shape
    count = size_out // size_in
    same = count * size_in == size_out and np.array_equal(matrix, np.repeat(np.eye(size_in), count, axis=0))
    return count if same else None


def _pooled(emit: Emit, dy: str, repeats: list[int], x: str) -> str:
    mean = emit.op("AveragePool", dy, kernel_shape=repeats, strides=repeats)
    total = emit.op("Mul", mean, emit.number(float(np.prod(repeats)), dy))
    return emit.graph.narrow(total, emit.shape(x))
