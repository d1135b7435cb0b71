"""Which feature map a method explains: a value between input and logits that has channels and places."""

from clearweight.exporter.autodiff import NON_DIFFERENTIABLE, Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Choice

# Operators that make channels out of an input; what lies before them is the input itself.
_FEATURE_OPS = frozenset({"Conv", "ConvTranspose"})


def feature_map(emit: Emit, classifier: Classifier, choice: Choice, method: str) -> str:
    """Return the feature map [N, K, space...] that was chosen, by default the last one.

    Raises
    ------
    NotApplicableError
        The network has no feature map, or the layer that was named is none.
    """
    features = feature_maps(emit, classifier)
    if not features:
        raise NotApplicableError(
            f"{method} needs a feature map with spatial axes before the logits; this network has none."
        )
    if choice.layer is not None and choice.layer not in features:
        raise NotApplicableError(
            f"Layer {choice.layer!r} is no feature map of this network. Known: {', '.join(features)}."
        )
    return features[-1] if choice.layer is None else choice.layer


def feature_maps(emit: Emit, classifier: Classifier) -> list[str]:
    """List the values between input and logits that have channels and more than one place, in order.

    Their first axis is the batch, by its symbol: attention folds heads into it, and a map has no row for a head. Where
    places are laid out in one row, as tokens, what follows is no map, whatever its axes.
    """
    batch, rank = emit.shape(classifier.x)[0], emit.rank(classifier.x)
    nodes = [node for node in emit.graph.nodes if node.key not in NON_DIFFERENTIABLE]
    needed = {classifier.logits}
    for node in reversed(nodes):
        if any(name in needed for name in node.outputs):
            needed.update(node.inputs)
    derived: set[str] = set()
    found = []
    for node in nodes:
        if node.key.op_type not in _FEATURE_OPS and not any(name in derived for name in node.inputs):
            continue
        y = node.outputs[0]
        shape = emit.graph.type(y).shape
        if shape is not None and len(shape) < rank:
            continue
        derived.update(name for name in node.outputs if name)
        if (
            y in needed
            and emit.graph.type(y).dtype.kind == "f"  # not the integers that a value is rounded to
            and shape is not None
            and len(shape) == rank >= 3
            and shape[0] == batch
            and any(size != 1 for size in shape[2:])
        ):
            found.append(y)
    return found


def weighted_sum(emit: Emit, a: str, alpha: str) -> str:
    """Collapse a feature map to one channel: ``relu(sum_k alpha_k A_k)``, [N, 1, space...]."""
    return emit.op("Relu", emit.sum(emit.op("Mul", a, alpha), [1], keepdims=True))
