"""Rule tables that treat rectifiers in another way: guided backpropagation and the deconvolutional network.

Both replace the rows of the pointwise activations that open and shut (``RECTIFIERS``) and leave every other row as it
is. Smooth relatives of the ReLU count as rectifiers too, with their own derivative; gates (Sigmoid, Tanh, HardSigmoid,
Softmax) do not. SiLU written as ``Mul(x, Sigmoid(x))`` is two gates to the walk and no rectifier.
"""

from collections.abc import Callable, Mapping

from clearweight.exporter.autodiff import RULES, Emit, Node, OpKey
from clearweight.exporter.autodiff.walker import Gradients, Rule
from clearweight.exporter.explain.between import nodes_between
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError

RECTIFIERS = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "PRelu",
        "ThresholdedRelu",
        "Clip",
        "Elu",
        "Celu",
        "Selu",
        "Gelu",
        "HardSwish",
        "Mish",
        "Softplus",
        "Swish",
    }
)


def deconvnet_rule(_rule: Rule) -> Rule:
    """``y = rectifier(x);  dx = relu(dy)``: what came in going forward does not matter."""

    def rule(emit: Emit, node: Node, dy: str, /) -> Gradients:
        return (emit.op("Relu", dy), *(None for _ in node.inputs[1:]))

    return rule


def guided_rule(rule: Rule) -> Rule:
    """``y = rectifier(x);  dx = rectifier'(x) relu(dy)``: a ReLU must be open in both directions."""

    def guided(emit: Emit, node: Node, dy: str, /) -> Gradients:
        return rule(emit, node, emit.op("Relu", dy))

    return guided


def with_rectifiers(change: Callable[[Rule], Rule]) -> Mapping[OpKey, Rule]:
    """Return the rules with those of all rectifiers changed."""
    return {key: change(rule) if key.op_type in RECTIFIERS else rule for key, rule in RULES.items()}


def require_rectifier(emit: Emit, classifier: Classifier, method: str) -> None:
    """Refuse a network without rectifiers, where the method would be nothing but the gradient.

    A unit is never refused: in the first layer there is none before it, and the projection is a plain transpose.

    Raises
    ------
    NotApplicableError
        There is none between input and output.
    """
    if classifier.chosen_by is None:
        return
    passed = nodes_between(emit, classifier.x, classifier.logits)
    if any(entry.node.key.op_type == "QuantizeLinear" for entry in passed):
        raise NotApplicableError(
            f"{method} changes how rectifiers are passed, and in a quantized network their work is done by the "
            "clipping of QuantizeLinear: explain the float network."
        )
    if not any(entry.node.key.op_type in RECTIFIERS for entry in passed):
        raise NotApplicableError(
            f"{method} changes how rectifiers are passed, and there is none between {classifier.x!r} and "
            f"{classifier.logits!r}: expected one of {', '.join(sorted(RECTIFIERS))}."
        )
