"""What a VJP rule may ask for and do: read types and settings, add standard operators."""

from collections.abc import Sequence
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from clearweight.exporter.autodiff.errors import UnknownShapeError, UnsupportedOpError
from clearweight.exporter.autodiff.graph import Graph
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.value_type import Shape, fixed_size


class Emit:
    """Adds operators to a graph; each method returns the name of the new value."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

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
        array = self.graph.constant(name)
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
        """Reshape to a shape with at most one dimension that is no number, which is then computed."""
        if self.shape(value) == shape and None not in shape:
            return value
        sizes = [dim if isinstance(dim, int) else -1 for dim in shape]
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
        """Permute axes; no node where the order stays."""
        if list(permutation) == list(range(len(permutation))):
            return value
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

    def element_count(self, value: str, axes: Sequence[int]) -> str:
        """Return the product of dimensions as a number of the type of ``value``."""
        dims = [self.shape(value)[axis] for axis in axes]
        if all(isinstance(dim, int) for dim in dims):
            return self.number(prod(dim for dim in dims if isinstance(dim, int)), value)
        sizes = self.op("Gather", self.op("Shape", value), self.ints(list(axes)))
        return self.as_type_of(self.op("ReduceProd", sizes, keepdims=0), value)
