"""VJP rules of attention as one operator, and of the rotation of its queries and keys.

The operator keeps its place on the way forth, so a runtime may fuse what it likes; the way back computes the weights of
the mixture once more, from standard products and a softmax.
"""

import numpy as np

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.rules.softmax import softmax_pull_back
from clearweight.exporter.autodiff.walker import Gradients

_NOTHING = -1e9  # added to a score that a mask hides: its weight is 0 in float32


def attention_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = p v, p = softmax(s q k^T + mask);  dv = p^T dy, dz = p (dp - sum(dp p)), dq = s dz k, dk = s dz^T q``."""
    _require_plain(emit, node)
    q, k, v = (
        _by_heads(emit, node, name, heads)
        for name, heads in zip(node.inputs[:3], _heads(emit, node), strict=True)
    )
    group = _group(emit, node, q, k)
    if group > 1:
        k, v = _repeated(emit, k, group), _repeated(emit, v, group)
    scale = float(node.attributes.get("scale", 0.0)) or emit.sizes(q, [3], node)[0] ** -0.5
    scores = emit.op("Mul", emit.op("MatMul", q, emit.swap_last(k)), emit.number(scale, q))
    weights = emit.op("Softmax", _masked(emit, node, scores), axis=-1)
    dy = _by_heads(emit, node, dy, emit.sizes(q, [1], node)[0])
    dv = emit.op("MatMul", emit.swap_last(weights), dy)
    dp = emit.op("MatMul", dy, emit.swap_last(v))
    dz = emit.op("Mul", softmax_pull_back(emit, weights, dp, -1), emit.number(scale, q))
    dq = emit.op("MatMul", dz, k)
    dk = emit.op("MatMul", emit.swap_last(dz), q)
    if group > 1:
        dk, dv = _summed(emit, dk, group), _summed(emit, dv, group)
    found = tuple(_like_input(emit, dx, x) for dx, x in zip((dq, dk, dv), node.inputs[:3], strict=True))
    return (*found, *(None for _ in node.inputs[3:]))


def rotary_embedding_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x`` with pairs of channels turned by an angle;  ``dx = dy`` with them turned back."""
    if node.wants(1) or node.wants(2):
        emit.unsupported(node, "only the gradient to its first input is defined, not to its angles")
    cosine, sine, *places = node.inputs[1:]
    dx = emit.op("RotaryEmbedding", dy, cosine, emit.op("Neg", sine), *places, **node.attributes)
    return (emit.graph.narrow(dx, emit.shape(node.inputs[0])), *(None for _ in node.inputs[1:]))


def _require_plain(emit: Emit, node: Node) -> None:
    if float(node.attributes.get("softcap", 0.0)):
        emit.unsupported(node, "softcap is set")
    if any(node.input(index) is not None for index in (4, 5, 6)):
        emit.unsupported(node, "keys and values of earlier steps, or their count, are given")
    if node.wants(3):
        emit.unsupported(node, "only the gradient to queries, keys and values is defined, not to the mask")


def _heads(emit: Emit, node: Node) -> tuple[int, int, int]:
    """Return how many heads queries, keys and values have; 0 where their shape says so."""
    if emit.rank(node.inputs[0]) == 4:
        return 0, 0, 0
    own, others = (int(node.attributes.get(f"{side}_num_heads", 0)) for side in ("q", "kv"))
    if not own or not others:
        emit.unsupported(node, "q_num_heads or kv_num_heads is missing")
    return own, others, others


def _by_heads(emit: Emit, node: Node, value: str, heads: int) -> str:
    """Bring [N, L, heads D] to [N, heads, L, D]."""
    if emit.rank(value) == 4:
        return value
    batch, (length, width) = emit.shape(value)[0], emit.sizes(value, [1, 2], node)
    apart = emit.reshape(value, (batch, length, heads, width // heads))
    return emit.transpose(apart, [0, 2, 1, 3])


def _like_input(emit: Emit, dx: str, x: str) -> str:
    """Bring a gradient by heads to its input's shape."""
    if emit.rank(x) == 4:
        return emit.graph.narrow(dx, emit.shape(x))
    return emit.reshape(emit.transpose(dx, [0, 2, 1, 3]), emit.shape(x))


def _group(emit: Emit, node: Node, q: str, k: str) -> int:
    """Return how many heads of queries share one of keys."""
    (own,), (shared,) = emit.sizes(q, [1], node), emit.sizes(k, [1], node)
    return own // shared


def _repeated(emit: Emit, value: str, group: int) -> str:
    """Repeat every head for the queries that share it."""
    heads = emit.sizes(value, [1], "grouped attention")[0]
    picked = np.repeat(np.arange(heads), group)
    return emit.op("Gather", value, emit.ints(picked.tolist()), axis=1)


def _summed(emit: Emit, value: str, group: int) -> str:
    """Undo ``_repeated``: sum over the queries' heads that share one."""
    batch, heads, rest = (
        emit.shape(value)[0],
        emit.sizes(value, [1], "grouped attention")[0],
        emit.shape(value)[2:],
    )
    apart = emit.reshape(value, (batch, heads // group, group, *rest))
    return emit.sum(apart, [2], keepdims=False)


def _masked(emit: Emit, node: Node, scores: str) -> str:
    """Add the mask to the scores; what it hides, and for causal attention what comes later, gets no weight."""
    mask = node.input(3)
    if mask is not None:
        if emit.graph.type(mask).dtype == np.bool_:
            shown = emit.as_type_of(mask, scores)
            mask = emit.op(
                "Mul", emit.op("Sub", emit.number(1, scores), shown), emit.number(_NOTHING, scores)
            )
        scores = emit.op("Add", scores, mask)
    if int(node.attributes.get("is_causal", 0)):
        length, others = emit.sizes(scores, [2, 3], node)
        later = np.triu(np.full((length, others), _NOTHING), 1)
        scores = emit.op("Add", scores, emit.number(later, scores))
    return scores
