"""Rules of layer-wise relevance propagation, as rows for the walk that otherwise takes gradients.

What travels is relevance instead of a cotangent: each operator hands the relevance R of its output to its inputs, and
where several consumers read a value their shares add up. Bach et al., PLoS ONE 2015 (epsilon, equation 58);
Montavon et al., Pattern Recognition 2017 (z+); Lapuschkin et al., Nature Communications 2019 (flat); Montavon et al.,
2019, chapter 10 (composites). Every operator has one of five treatments:

- layers (convolutions and products with constant weights): the rule of the method;
- sums (Add, Sub, mean pooling, batch normalisation, interpolation): each summand its part of the sum,
  ``R_i = a_i R / z``; a constant summand, like a bias, keeps its part, and the relevance grows less by it;
- routes (reshaping, cutting, joining, max pooling): the row of the gradient itself, which hands on and adds nothing;
- passes (pointwise activations, factors that do not depend on the input): the relevance as it is;
- anything else (softmax, layer normalisation, products of two data values) has no agreed rule and is refused.

The rules themselves are in ``relevance_rule``.
"""

from collections.abc import Mapping

from clearweight.exporter.autodiff import RULES, Emit, Node, OpKey
from clearweight.exporter.autodiff.walker import Gradients, Rule
from clearweight.exporter.explain.between import nodes_between
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Choice
from clearweight.exporter.explain.rectifier import RECTIFIERS
from clearweight.exporter.explain.relevance_rule import STABILIZER, epsilon_rule, pass_rule

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
DENSE = frozenset({"Gemm", "MatMul"})
LAYERS = CONVOLUTIONS | DENSE
_SUMS = frozenset(
    {
        "Add",
        "AveragePool",
        "BatchNormalization",
        "GlobalAveragePool",
        "Mean",
        "ReduceMean",
        "ReduceSum",
        "Resize",
        "Sub",
        "Sum",
    }
)
_ROUTES = frozenset(
    {
        "Cast",
        "Concat",
        "DepthToSpace",
        "Dropout",
        "Expand",
        "Flatten",
        "Gather",
        "GlobalMaxPool",
        "Identity",
        "Max",
        "MaxPool",
        "Pad",
        "ReduceMax",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
_PASSES = RECTIFIERS | {
    "DequantizeLinear",
    "Div",
    "HardSigmoid",
    "Mul",
    "QuantizeLinear",
    "Sigmoid",
    "Softsign",
    "Tanh",
}


def relevance_rules(layer: Mapping[str, Rule]) -> Mapping[OpKey, Rule]:
    """Return the whole table; ``layer`` says what each kind of layer does, by operator."""
    kinds: dict[str, Rule] = dict.fromkeys(_SUMS, epsilon_rule(STABILIZER)) | dict.fromkeys(
        _PASSES, pass_rule
    )
    kinds |= {op_type: _of_one_input(rule) for op_type, rule in layer.items()}
    return {
        key: rule if key.op_type in _ROUTES else kinds[key.op_type]
        for key, rule in RULES.items()
        if key.op_type in _ROUTES or key.op_type in kinds
    }


def relevance(
    emit: Emit, classifier: Classifier, choice: Choice, rules: Mapping[OpKey, Rule], method: str
) -> str:
    """Hand the explained logit down to the input.

    Raises
    ------
    NotApplicableError
        A layer was given, or an operator on the way has no rule; the message names node and operator.
    """
    if choice.layer is not None:
        raise NotApplicableError(f"Layer {choice.layer!r} was given, but {method} explains the input.")
    for entry in nodes_between(emit, classifier.x, classifier.logits):
        if entry.node.key not in rules:
            raise NotApplicableError(f"{method} has no relevance rule for {entry.node}.")
    start = emit.op("Mul", classifier.logits, classifier.one_hot)
    seeded = classifier.on(classifier.x, classifier.logits, start)
    return seeded.cotangents(emit, [classifier.x], rules)[classifier.x]


def _of_one_input(rule: Rule) -> Rule:
    """Refuse a layer whose weight depends on the input as well."""

    def guarded(emit: Emit, node: Node, r: str, /) -> Gradients:
        if sum(node.wanted) != 1 or node.wants(2):
            raise NotApplicableError(
                f"There is no relevance rule for {node}: several of its inputs depend on the explained one."
            )
        return rule(emit, node, r)

    return guarded
