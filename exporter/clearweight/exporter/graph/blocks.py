"""Layers whose weights are block-diagonal behind permutations, run as batches of small matrix products.

A chain of such layers is computed with the batch as the last axis: gathering a block's inputs then copies whole rows,
and every product is a matrix by a matrix. Permutations cost as little as they can: the one behind a layer and the one
before the next are one gather, and a dense layer at the end takes the last one into the order of its columns.

What a Gather gathers is stored as the block of each input, a byte that codes to about log2(blocks) bits, and sorted in
the graph; the runtime does that once, when it loads the graph, since nothing in it depends on the input.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.graph.shape import free_batch

Places = NDArray[np.int64]

# Operators on each element by itself: they work on blocks as well as on rows.
ELEMENTWISE = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "Gelu",
        "HardSwish",
        "Mish",
        "Tanh",
        "Sigmoid",
        "Softplus",
        "Clip",
    }
)


@dataclass(frozen=True, eq=False)
class Blocks:
    """Block of each output and of each input of a layer."""

    rows: Places
    columns: Places

    @property
    def outputs(self) -> Places:
        """Outputs of each block, (blocks, most outputs of one), -1 where a block has fewer."""
        return _members(self.rows)


def _members(of: Places) -> Places:
    sizes = np.bincount(of)
    found = np.full((len(sizes), sizes.max()), -1, dtype=np.int64)
    for block in range(len(sizes)):
        found[block, : sizes[block]] = np.flatnonzero(of == block)
    return found


@dataclass(frozen=True, eq=False)
class InBlocks:
    """A network whose blocked layers run block by block.

    Attributes
    ----------
    elements : parameter -> where each of its elements was before, flat, -1 for a zero; of its new shape
    columns : names and values of the new parameters: the block of each unit that is gathered
    """

    model: onnx.ModelProto
    elements: Mapping[str, Places]
    columns: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class _Turned:
    """A value (N, units) with its batch last: ``name`` is (blocks, size, N) or (units, N), its units in ``order``."""

    name: str
    order: Places
    stacked: bool


@dataclass
class _Rewrite:
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    turned: dict[str, _Turned] = field(default_factory=dict)
    elements: dict[str, Places] = field(default_factory=dict)
    columns: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    plain: set[str] = field(default_factory=set)

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: list[int] | int) -> str:
        tensor = onnx.numpy_helper.from_array(np.array(values, dtype=np.int64))
        return self.add("Constant", [], name, value=tensor)

    def flat(self, value: str, units: int) -> _Turned:
        """Return a value of so many units with these along the first axis and its batch last."""
        held = self.turned.get(value)
        if held is None:
            turned = self.add("Transpose", [value], f"{value}.turned", perm=[1, 0])
            return _Turned(turned, np.arange(units), stacked=False)
        if not held.stacked:
            return held
        rows = self.add(
            "Reshape", [held.name, self.constant(f"{value}.units", [held.order.size, -1])], f"{value}.rows"
        )
        self.turned[value] = _Turned(rows, held.order.reshape(-1), stacked=False)
        return self.turned[value]


def in_blocks(model: onnx.ModelProto, blocks: Mapping[str, Blocks]) -> InBlocks:
    """Rewrite every Gemm of a canonical model whose weight has blocks.

    Parameters
    ----------
    blocks : weight -> its blocks; the weight is zero off them. Weights that no Gemm reads as (outputs, inputs) stay
    """
    own = onnx.ModelProto()
    own.CopyFrom(model)
    tensors = {t.name: t for t in own.graph.initializer}
    outputs = {value.name for value in own.graph.output}
    work = _Rewrite()
    for node in own.graph.node:
        if _is_linear(node) and node.input[1] in blocks and node.output[0] not in outputs:
            _blocked(work, node, blocks[node.input[1]])
        elif _is_linear(node) and node.input[0] in work.turned and node.input[1] not in work.elements:
            _reordered(work, node, tensors[node.input[1]].dims[0], tensors[node.input[1]].dims[1])
        elif node.op_type in ELEMENTWISE and node.input[0] in work.turned:
            held = work.turned[node.input[0]]
            name = f"{node.output[0]}.blocks"
            work.nodes.append(_renamed(node, [held.name, *node.input[1:]], name))
            work.turned[node.output[0]] = _Turned(name, held.order, held.stacked)
            if node.output[0] in outputs:
                _restore(work, node.output[0])
        else:
            for name in node.input:
                _restore(work, name)
            work.nodes.append(node)
    _install(own, work, tensors)
    return InBlocks(own, work.elements, work.columns)


def _is_linear(node: onnx.NodeProto) -> bool:
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    plain = settings.get("alpha", 1.0) == settings.get("beta", 1.0) == 1.0 and not settings.get("transA", 0)
    return node.op_type == "Gemm" and plain and settings.get("transB", 0) == 1


def _blocked(work: _Rewrite, node: onnx.NodeProto, blocks: Blocks) -> None:
    x, weight = node.input[:2]
    count = len(blocks.columns)
    given = work.flat(x, count)
    made = blocks.outputs
    at = _gathered(work, f"{weight}.columns", given.order, blocks.columns)
    members = np.where(at < len(given.order), given.order[np.minimum(at, len(given.order) - 1)], -1)
    pairs = made[:, :, None] * count + members[:, None, :]
    work.elements[weight] = np.where((made[:, :, None] < 0) | (members[:, None, :] < 0), -1, pairs)
    name = node.output[0]
    found = work.add("Gather", [given.name, f"{weight}.columns.places"], f"{name}.gathered", axis=0)
    biased = len(node.input) > 2
    found = work.add("MatMul", [weight, found], f"{name}.product" if biased else f"{name}.blocks")
    if biased:
        work.elements[node.input[2]] = made[:, :, None]
        found = work.add("Add", [found, node.input[2]], f"{name}.blocks")
    work.turned[name] = _Turned(found, made, stacked=True)


def _gathered(work: _Rewrite, name: str, order: Places, columns: Places) -> Places:
    """Emit which places each block gathers, and return it: (blocks, most inputs of one).

    A block with fewer inputs than the largest gathers a place too many, beyond the last, which is cut back to it and
    meets zero weights.
    """
    sizes = np.bincount(columns)
    blocks, most = len(sizes), int(sizes.max())
    lying = np.where(
        order < 0, blocks, columns[np.maximum(order, 0)]
    )  # a unit that is none comes last of all
    keys = np.concatenate([lying, np.repeat(np.arange(blocks), most - sizes)])
    work.columns[name] = keys.astype(np.uint8)
    count = len(keys)
    wide = work.add("Cast", [name], f"{name}.wide", to=onnx.TensorProto.INT64)
    step = work.add("Mul", [wide, work.constant(f"{name}.count", count)], f"{name}.steps")
    bounds = [
        work.constant(f"{name}.{what}", value) for what, value in (("first", 0), ("end", count), ("one", 1))
    ]
    distinct = work.add("Add", [step, work.add("Range", bounds, f"{name}.range")], f"{name}.keys")
    taken = work.constant(f"{name}.taken", [blocks * most])
    work.nodes.append(
        onnx.helper.make_node(
            "TopK", [distinct, taken], [f"{name}.sorted", f"{name}.at"], name=f"{name}.at", axis=0, largest=0
        )
    )
    last = work.constant(f"{name}.last", len(order) - 1)
    within = work.add("Min", [f"{name}.at", last], f"{name}.within")
    work.add("Reshape", [within, work.constant(f"{name}.blocks", [blocks, most])], f"{name}.places")
    return np.argsort(keys * count + np.arange(count))[: blocks * most].reshape(blocks, most)


def _reordered(work: _Rewrite, node: onnx.NodeProto, rows: int, columns: int) -> None:
    """Let a dense layer read the units in the order in which they lie."""
    held = work.flat(node.input[0], columns)
    order = held.order
    pairs = np.arange(rows)[:, None] * columns + order
    work.elements[node.input[1]] = np.where(order < 0, -1, pairs)
    straight = work.add("Transpose", [held.name], f"{node.input[0]}.straight", perm=[1, 0])
    work.nodes.append(_renamed(node, [straight, *node.input[1:]], node.output[0]))


def _restore(work: _Rewrite, value: str) -> None:
    """Make a value itself again, for a reader that is not a linear layer."""
    if value not in work.turned or value in work.plain:
        return
    held = work.flat(value, 0)
    places = work.constant(f"{value}.places", _inverse(held.order).tolist())
    sorted_rows = work.add("Gather", [held.name, places], f"{value}.sorted", axis=0)
    work.add("Transpose", [sorted_rows], value, perm=[1, 0])
    work.plain.add(value)


def _inverse(order: Places) -> Places:
    """Return where each unit lies."""
    flat = order.reshape(-1)
    found = np.empty(int(flat.max()) + 1, dtype=np.int64)
    found[flat[flat >= 0]] = np.flatnonzero(flat >= 0)
    return found


def _renamed(node: onnx.NodeProto, inputs: list[str], output: str) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.input[:], made.output[:]
    made.input.extend(inputs)
    made.output.append(output)
    made.name = output
    return made


def _install(own: onnx.ModelProto, work: _Rewrite, tensors: Mapping[str, onnx.TensorProto]) -> None:
    for name, places in work.elements.items():
        values = onnx.numpy_helper.to_array(tensors[name]).reshape(-1)
        taken = np.where(places < 0, np.float32(0), values[np.maximum(places, 0)])
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(taken, name))
    del own.graph.node[:]
    own.graph.node.extend(work.nodes)
    for name, keys in work.columns.items():
        own.graph.initializer.append(onnx.numpy_helper.from_array(keys, name))
    first = {name: i for i, node in reversed(list(enumerate(own.graph.node))) for name in node.input}
    kept = sorted(own.graph.initializer, key=lambda t: first[t.name])
    del own.graph.initializer[:]
    own.graph.initializer.extend(kept)
    free_batch(own)
    onnx.checker.check_model(own, full_check=True)
