"""VJP rules of sums and means over axes."""

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients


def reduce_sum_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = sum of x over axes;  dx = dy repeated along them``."""
    axes = _axes(emit, node)
    return (_spread(emit, node, dy, axes), *(None for _ in node.inputs[1:]))


def reduce_mean_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = mean of x over axes;  dx = dy / count repeated along them``."""
    axes = _axes(emit, node)
    if not axes:
        return (dy, *(None for _ in node.inputs[1:]))
    share = emit.op("Div", dy, emit.element_count(node.inputs[0], axes))
    return (_spread(emit, node, share, axes), *(None for _ in node.inputs[1:]))


def global_average_pool_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = mean of x over space;  dx = dy / count repeated over space``."""
    (x,) = node.inputs
    share = emit.op("Div", dy, emit.element_count(x, range(2, emit.rank(x))))
    return (emit.expand_like(share, x),)


def _axes(emit: Emit, node: Node) -> list[int]:
    """Read the reduced axes, given as an input or as an attribute by the operator's version."""
    given = emit.setting(node, 1)
    rank = emit.rank(node.inputs[0])
    listed = node.attributes.get("axes", []) if given is None else [int(axis) for axis in given.reshape(-1)]
    if not listed:
        return [] if int(node.attributes.get("noop_with_empty_axes", 0)) else list(range(rank))
    return sorted(axis % rank for axis in listed)


def _spread(emit: Emit, node: Node, dy: str, axes: list[int]) -> str:
    x = node.inputs[0]
    if axes and not int(node.attributes.get("keepdims", 1)):
        dy = emit.op("Unsqueeze", dy, emit.ints(axes))
    return emit.expand_like(dy, x)
