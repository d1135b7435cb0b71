"""Which channels of a network stand or fall together, who writes and reads them, and which are always zero.

A channel is one index of axis 1. Convolutions and matrix products begin new channels; an addition ties those of its
operands, so that the blocks of a residual stage share one group per channel; flattening spreads one over many
columns. What an operator outside the table does with axis 1 is not known: its channels are pinned.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Slices:
    """One axis of a parameter whose indices belong to channels.

    Attributes
    ----------
    ids : group of each index, (length of the axis,)
    reads : the parameter reads these channels; otherwise it writes them
    silent : of the channels that are read: always zero
    """

    parameter: str
    axis: int
    ids: Ids
    reads: bool
    silent: Flags


@dataclass(frozen=True, eq=False)
class Product:
    """One convolution or matrix product: ``places`` multiply-accumulates for each pair of an output and an input."""

    places: int
    outputs: Ids
    inputs: Ids


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of a network.

    Attributes
    ----------
    of : value -> group of each of its channels
    silent : value -> channels that are zero whatever the input is
    pinned : groups that cannot be taken out
    """

    of: Mapping[str, Ids]
    silent: Mapping[str, Flags]
    slices: tuple[Slices, ...]
    products: tuple[Product, ...]
    pinned: frozenset[int]

    def multiply_accumulates(self, removed: frozenset[int] = frozenset()) -> int:
        """Count one input's multiply-accumulates without the groups ``removed``."""
        gone = np.array(sorted(removed), dtype=np.int64)

        def kept(ids: Ids) -> int:
            return int(np.count_nonzero(~np.isin(ids, gone)))

        return sum(p.places * kept(p.outputs) * kept(p.inputs) for p in self.products)


class Survey:
    """The walk over a graph in its order; rules say what their operator does with channels."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.parameters = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        self.constants = {
            n.output[0]: onnx.numpy_helper.to_array(n.attribute[0].t)
            for n in graph.node
            if n.op_type == "Constant" and n.attribute[0].name == "value"
        }
        self.shapes = {
            v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (*graph.input, *graph.value_info, *graph.output)
        }
        self.of: dict[str, Ids] = {}
        self.silent: dict[str, Flags] = {}
        self.slices: list[Slices] = []
        self.products: list[Product] = []
        self._parent: list[int] = []
        self._pinned: set[int] = set()
        for value in graph.input:
            self.unknown(value.name)

    def fresh(self, count: int) -> Ids:
        """Begin new groups."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        return np.arange(first, first + count)

    def root(self, group: int) -> int:
        """Return the representative of a group."""
        while self._parent[group] != group:
            self._parent[group] = group = self._parent[self._parent[group]]
        return group

    def tie(self, first: Ids, second: Ids) -> None:
        """Make groups one, pairwise."""
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            low, high = sorted((self.root(a), self.root(b)))
            self._parent[high] = low

    def pin(self, ids: Ids) -> None:
        """Forbid that these are taken out."""
        self._pinned.update(ids.tolist())

    def hand(self, name: str, ids: Ids, silent: Flags) -> None:
        """State the channels of a value."""
        self.of[name], self.silent[name] = ids, silent

    def unknown(self, name: str) -> None:
        """Give a value channels that nobody may touch."""
        shape = self.shapes.get(name, [])
        if len(shape) > 1 and shape[1]:
            ids = self.fresh(shape[1])
            self.pin(ids)
            self.hand(name, ids, np.zeros(len(ids), dtype=bool))

    def slice(self, parameter: str, axis: int, ids: Ids, silent: Flags | None = None) -> None:
        """Say to which channels an axis of a parameter belongs; ``silent`` of those it reads."""
        for other in self.slices:
            if (other.parameter, other.axis) == (parameter, axis):
                self.tie(other.ids, ids)  # a parameter that is used twice is cut once
        quiet = np.zeros(len(ids), dtype=bool) if silent is None else silent
        self.slices.append(Slices(parameter, axis, ids, silent is not None, quiet))

    def run(self, model: onnx.ModelProto, rules: "Mapping[str, Rule]") -> Channels:
        """Walk the graph; an operator that ``rules`` does not know, or cannot follow, pins what it touches."""
        for node in model.graph.node:
            if node.op_type == "Constant":
                continue
            rule = rules.get(node.op_type)
            if rule is None or not rule(self, node):
                for name in node.input:
                    if name in self.of:
                        self.pin(self.of[name])
                    if name in self.parameters:
                        self._fix(name)
                for name in node.output:
                    self.unknown(name)
        for value in model.graph.output:
            self.pin(self.of[value.name])

        def rooted(ids: Ids) -> Ids:
            return np.array([self.root(i) for i in ids.tolist()], dtype=np.int64)

        return Channels(
            {name: rooted(ids) for name, ids in self.of.items()},
            self.silent,
            tuple(Slices(s.parameter, s.axis, rooted(s.ids), s.reads, s.silent) for s in self.slices),
            tuple(Product(p.places, rooted(p.outputs), rooted(p.inputs)) for p in self.products),
            frozenset(self.root(i) for i in self._pinned),
        )

    def _fix(self, parameter: str) -> None:
        """Pin the channels of a parameter that an unknown operator reads, too."""
        for other in self.slices:
            if other.parameter == parameter:
                self.pin(other.ids)


Rule = Callable[[Survey, onnx.NodeProto], bool]
"""Says what one node does with channels; False where it cannot be followed."""
