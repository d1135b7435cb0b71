"""A composite of LRP rules: flat at the first layer, z+ at convolutions, epsilon at dense layers.

Near the logit epsilon keeps the classes apart, between the convolutions z+ is free of noise, and at the input, where
values have no natural zero, the flat rule spreads evenly (Montavon et al., Layer-Wise Relevance Propagation: An
Overview, 2019, section 10.3; the composite that zennit calls ``EpsilonPlusFlat``). From ``R = F_c``, signed, in units
of the logit. A first layer is any that no other layer precedes.
"""

from collections.abc import Collection

from clearweight.exporter.autodiff import Emit, Node
from clearweight.exporter.autodiff.walker import Gradients, Rule
from clearweight.exporter.explain.between import nodes_between
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.lrp_epsilon import EPSILON, stated_epsilon
from clearweight.exporter.explain.relevance import CONVOLUTIONS, DENSE, LAYERS, relevance, relevance_rules
from clearweight.exporter.explain.relevance_rule import STABILIZER, epsilon_rule, flat_rule, zplus_rule


def lrp_composite(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add LRP with the composite's rules."""
    epsilon = stated_epsilon(choice, "lrp_composite")
    first = first_layers(emit, classifier)
    later = dict.fromkeys(CONVOLUTIONS, zplus_rule) | dict.fromkeys(DENSE, epsilon_rule(epsilon))
    rules = relevance_rules({op_type: _flat_at(first, rule) for op_type, rule in later.items()})
    return Attribution(relevance(emit, classifier, choice, rules, "lrp_composite"))


def first_layers(emit: Emit, classifier: Classifier) -> set[str]:
    """Name the outputs of the layers that read the input before any other layer has."""
    behind: set[str] = set()
    first = set()
    for entry in nodes_between(emit, classifier.x, classifier.logits):
        is_layer = entry.node.key.op_type in LAYERS
        after = any(name in behind for name in entry.node.inputs)
        if is_layer and not after:
            first.add(entry.node.outputs[0])
        if is_layer or after:
            behind.update(entry.node.outputs)
    return first


def _flat_at(first: Collection[str], otherwise: Rule) -> Rule:
    def rule(emit: Emit, node: Node, r: str, /) -> Gradients:
        return (flat_rule if node.outputs[0] in first else otherwise)(emit, node, r)

    return rule


EXPLAINER = Explainer(
    method="lrp_composite",
    resolution="input",
    sign="signed",
    units="logit",
    baseline="none",
    attribute=lrp_composite,
    settings={EPSILON: STABILIZER},
)
