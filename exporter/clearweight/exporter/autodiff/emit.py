"""What a VJP rule may ask for and do: read types and settings, add standard operators."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.autodiff.cost import COMMITTED, CostTable, sum_class
from clearweight.exporter.autodiff.errors import UnknownShapeError, UnsupportedOpError
from clearweight.exporter.autodiff.graph import Graph
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.value_type import Shape, fixed_size

STEEPEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Phases:
    """A value [N, C, space...] by position modulo strides: one part for each, the last axis running fastest."""

    strides: tuple[int, ...]
    parts: tuple[str, ...]


class Emit:
    """Adds operators to a graph; each method returns the name of the new value.

    ``straight_through`` tells whether a rule passed a rounding as if it were the identity, so that what was added is
    the derivative of a surrogate. ``costs`` decides between kernels that compute the same. ``phases`` holds values that
    are known in parts too: a rule that can do with the parts leaves the whole unused, and so unwritten. ``one_hot``
    holds cotangents [N, C] that are 1 at one class of each row and 0 elsewhere, or NaN.
    """

    def __init__(self, graph: Graph, costs: CostTable = COMMITTED) -> None:
        self.graph = graph
        self.costs = costs
        self.straight_through = False
        self.phases: dict[str, Phases] = {}
        self.one_hot: set[str] = set()

    # Reading -------------------------------------------------------------------------------------------

    def shape(self, value: str) -> Shape:
        """Return a shape; dimensions that are not numbers are symbols or None."""
        return self.graph.shape(value)

    def rank(self, value: str) -> int:
        """Return the number of axes."""
        return len(self.graph.shape(value))

    def sizes(self, value: str, axes: Sequence[int], node: Node | str) -> list[int]:
        """Return dimensions that a rule cannot do without; ``node`` is what needs them, for the message.

        Raises
        ------
        UnknownShapeError
            One of them is not a number.
        """
        shape = self.shape(value)
        found = []
        for axis in axes:
            size = shape[axis]
            if not isinstance(size, int):
                raise UnknownShapeError(
                    f"Value {value!r} has shape {shape}; {node} needs axis {axis} as a number."
                )
            found.append(size)
        return found

    def known(self, value: str) -> NDArray[np.generic] | None:
        """Return the numbers behind a constant or an initializer, None for what is computed or fed."""
        array = self.graph.constant(value)
        return self.graph.initializer(value) if array is None else array

    def setting(self, node: Node, index: int) -> NDArray[np.generic] | None:
        """Return an input that configures the operator, None where it is left out.

        Raises
        ------
        UnsupportedOpError
            It is computed at run time.
        """
        name = node.input(index)
        if name is None:
            return None
        array = self.known(name)
        if array is None:
            raise UnsupportedOpError(
                f"Input {index} ({name!r}) of {node} is computed at run time, expected a constant."
            )
        return array

    def unsupported(self, node: Node, reason: str) -> NoReturn:
        """Refuse a use of an operator that its rule does not cover."""
        raise UnsupportedOpError(f"No VJP rule for this use of {node}: {reason}.")

    # Adding --------------------------------------------------------------------------------------------

    def op(self, op_type: str, *inputs: str | None, **attributes: Any) -> str:
        """Add one operator of the standard domain."""
        return self.graph.add_node(op_type, inputs, attributes)

    def output(self, node: Node, index: int) -> str:
        """Return an optional output of a node of the model."""
        return self.graph.request_output(node, index)

    def ints(self, values: Sequence[int] | int) -> str:
        """Add an INT64 constant."""
        return self.graph.add_constant(np.asarray(values, dtype=np.int64))

    def number(self, values: Any, like: str) -> str:
        """Add a constant of the element type of ``like``."""
        return self.graph.add_constant(np.asarray(values, dtype=self.graph.type(like).dtype))

    def as_type_of(self, value: str, like: str) -> str:
        """Cast to the element type of ``like``."""
        return self.op("Cast", value, to=self.graph.type(like).element)

    # Idioms of several operators -----------------------------------------------------------------------

    def shape_of(self, value: str) -> str:
        """Return a shape as a value: a constant where it is known."""
        shape = self.shape(value)
        if all(isinstance(dim, int) for dim in shape):
            return self.ints([dim for dim in shape if isinstance(dim, int)])
        return self.op("Shape", value)

    def reshape(self, value: str, shape: Shape) -> str:
        """Reshape to a shape with at most one dimension that is no number.

        It is copied where it stays in its place (a runtime then knows that it is the same number, and keeps blocked
        layouts across it), and computed elsewhere.
        """
        own = self.shape(value)
        if own == shape and None not in shape:
            return value
        copied = [at for at, dim in enumerate(shape) if isinstance(dim, str) and own[at : at + 1] == (dim,)]
        sizes = [dim if isinstance(dim, int) else 0 if at in copied else -1 for at, dim in enumerate(shape)]
        return self.graph.narrow(self.op("Reshape", value, self.ints(sizes)), shape)

    def reshape_like(self, value: str, like: str) -> str:
        """Give a value of equal size the shape of another."""
        shape = self.shape(like)
        if self.shape(value) == shape and None not in shape:
            return value
        free = sum(not isinstance(dim, int) for dim in shape)
        if free == 0 or (free == 1 and fixed_size(shape) > 0):
            return self.reshape(value, shape)
        return self.graph.narrow(self.op("Reshape", value, self.op("Shape", like)), shape)

    def expand_like(self, value: str, like: str) -> str:
        """Broadcast a value of the same rank to the shape of another.

        Free dimensions that are equal by their symbol need no size; other free ones are read at run time.
        """
        source, target = self.shape(value), self.shape(like)
        if source == target and None not in target:
            return value
        if all(
            isinstance(to, int) or (to is not None and to == own)
            for own, to in zip(source, target, strict=True)
        ):
            sizes = self.ints([to if isinstance(to, int) else 1 for to in target])
        else:
            sizes = self.shape_of(like)
        return self.graph.narrow(self.op("Expand", value, sizes), target)

    def transpose(self, value: str, permutation: Sequence[int]) -> str:
        """Permute axes; no node where the order stays, and one for two in a row."""
        if list(permutation) == list(range(len(permutation))):
            return value
        made_by = self.graph.producer(value)
        if made_by is not None and made_by.key.op_type == "Transpose":
            first = made_by.attributes.get("perm", list(range(len(permutation)))[::-1])
            return self.transpose(made_by.inputs[0], [first[axis] for axis in permutation])
        return self.op("Transpose", value, perm=list(permutation))

    def swap_last(self, value: str) -> str:
        """Transpose a batch of matrices."""
        rank = self.rank(value)
        return self.transpose(value, [*range(rank - 2), rank - 1, rank - 2])

    def sum(self, value: str, axes: Sequence[int], *, keepdims: bool) -> str:
        """Sum over axes; no node where there are none."""
        if not axes:
            return value
        return self.op("ReduceSum", value, self.ints(list(axes)), keepdims=int(keepdims))

    def slice(
        self,
        value: str,
        axes: Sequence[int],
        starts: Sequence[int],
        ends: Sequence[int],
        steps: Sequence[int],
    ) -> str:
        """Cut along axes."""
        return self.op("Slice", value, *(self.ints(list(given)) for given in (starts, ends, axes, steps)))

    def pad(self, value: str, before: Sequence[int], after: Sequence[int]) -> str:
        """Put zeros round a value; one entry per axis."""
        if not any(before) and not any(after):
            return value
        return self.op("Pad", value, self.ints([*before, *after]))

    def add(self, a: str, b: str) -> str:
        """Add two values of one shape; neighbouring parts, each with zeros round it, are joined instead.

        So the gradients of slices that cut a value apart become one Concat.
        """
        for first, second in ((a, b), (b, a)):
            joined = self._joined(first, second)
            if joined is not None:
                return joined
        return self.op("Add", a, b)

    def _joined(self, first: str, second: str) -> str | None:
        parts = self._padding(first), self._padding(second)
        if parts[0] is None or parts[1] is None:
            return None
        (u, axis, before, _), (v, other_axis, skipped, rest) = parts[0], parts[1]
        size = self.shape(u)[axis]
        if axis != other_axis or not isinstance(size, int) or skipped != before + size:
            return None
        joined = self.op("Concat", u, v, axis=axis)
        rank = self.rank(joined)
        widths = [[width if at == axis else 0 for at in range(rank)] for width in (before, rest)]
        return self.graph.narrow(self.pad(joined, *widths), self.shape(first))

    def _padding(self, value: str) -> tuple[str, int, int, int] | None:
        """Return what lies inside zeros along one axis: value, axis, zeros before and after it."""
        made_by = self.graph.producer(value)
        if made_by is None or made_by.key.op_type != "Pad" or len(made_by.inputs) != 2 or made_by.attributes:
            return None
        widths = self.graph.constant(made_by.inputs[1])
        if widths is None or widths.min() < 0:
            return None
        before, after = widths.reshape(2, -1).tolist()
        padded = [axis for axis, both in enumerate(zip(before, after, strict=True)) if any(both)]
        return (
            (made_by.inputs[0], padded[0], before[padded[0]], after[padded[0]]) if len(padded) == 1 else None
        )

    def element_count(self, value: str, axes: Sequence[int]) -> str:
        """Return the product of dimensions as a number of the type of ``value``."""
        dims = [self.shape(value)[axis] for axis in axes]
        if all(isinstance(dim, int) for dim in dims):
            return self.number(prod(dim for dim in dims if isinstance(dim, int)), value)
        sizes = self.op("Gather", self.op("Shape", value), self.ints(list(axes)))
        return self.as_type_of(self.op("ReduceProd", sizes, keepdims=0), value)

    # Idioms of several operators: masks and linear maps ------------------------------------------------

    def positive(self, value: str) -> str:
        """Return 1 where ``value > 0`` and 0 elsewhere, in one vectorised kernel.

        ``HardSigmoid(v) = max(0, min(1, alpha v))`` with the largest float32 as alpha is the step function for
        every v above 3e-39, that is for every normal number; Greater and Cast cost two passes and a detour
        through bytes.
        """
        return self.ramp("relu", value, STEEPEST, 0.0)

    def ramp(self, kind: str, value: str, slope: float, offset: float) -> str:
        """Return ``max(0, min(1, slope v + offset))``; steep, it is a step.

        HardSigmoid by itself leaves the blocked layout of convolutions, which costs a reorder on both sides. Behind a
        convolution that only scales each channel, a runtime fuses it, and the value stays where it is.
        """
        shape = self.graph.type(value).shape or ()
        if not self.costs.keeps_blocks(kind, shape) or self.graph.type(value).dtype != np.float32:
            return self.op("HardSigmoid", value, alpha=slope, beta=offset)
        return self.scaled_ramp(value, slope, offset)

    def scaled_ramp(self, value: str, slope: float, offset: float) -> str:
        """Return the ramp of a float32 value [N, C, h, w] behind a convolution that only scales."""
        (channels,) = self.sizes(value, [1], "a mask")
        weight = self.filled([channels, 1, 1, 1], slope)
        scaled = self.op("Conv", value, weight, self.filled([channels], offset), group=channels)
        self.graph.narrow(scaled, self.shape(value))
        return self.op("HardSigmoid", scaled, alpha=1.0, beta=0.0)

    def filled(self, sizes: Sequence[int], number: float) -> str:
        """Return a float32 constant that repeats one number; it is stored as the number and repeated at load."""
        given = onnx.numpy_helper.from_array(np.array([number], np.float32))
        return self.op("ConstantOfShape", self.ints(list(sizes)), value=given)

    def spatial_sums(self, value: str) -> tuple[list[str], int]:
        """Sum [N, C, space...] over space, up to a factor: values [N, C] to be added, and the factor.

        A mean has a kernel in the blocked layout, a sum has none.
        """
        if value in self.phases:
            parts = [self.spatial_sums(part) for part in self.phases[value].parts]
            return [found for sums, _ in parts for found in sums], parts[0][1]
        shape = self.shape(value)
        kind = sum_class([size for size in shape[1:] if isinstance(size, int)])
        if not self.costs.keeps_blocks(kind, shape):
            return [self.sum(value, range(2, len(shape)), keepdims=False)], 1
        places = prod(self.sizes(value, range(2, len(shape)), "a sum over space"))
        return [self.op("Flatten", self.op("GlobalAveragePool", value))], places

    def equal(self, a: str, b: str) -> str:
        """Return 1 where two values are equal and 0 elsewhere, in their element type."""
        return self.as_type_of(self.op("Equal", a, b), a)

    def zeros_like(self, value: str) -> str:
        """Return zeros in the shape and element type of a value."""
        zero = onnx.numpy_helper.from_array(np.zeros(1, self.graph.type(value).dtype))
        return self.graph.narrow(
            self.op("ConstantOfShape", self.shape_of(value), value=zero), self.shape(value)
        )

    def along_axis(self, value: str, matrix: NDArray[np.generic], axis: int) -> str:
        """Apply a constant matrix to an axis: ``y[.., i, ..] = sum over j of matrix[i, j] value[.., j, ..]``."""
        rank = self.rank(value)
        if axis == rank - 2:
            return self.op("MatMul", self.number(matrix, value), value)
        to_last = [*(at for at in range(rank) if at != axis), axis]
        turned = self.op("MatMul", self.transpose(value, to_last), self.number(matrix.T, value))
        return self.transpose(turned, [int(at) for at in np.argsort(to_last)])
