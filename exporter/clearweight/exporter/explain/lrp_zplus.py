"""LRP-z+: the logit handed down layer by layer along positive contributions only.

``R_i = sum_j max(a_i w_ij, 0) / z_j R_j`` at every layer, ``z_j`` the sum of the positive contributions and of a
positive bias (Montavon et al., Explaining Nonlinear Classification Decisions with Deep Taylor Decomposition, Pattern
Recognition 2017, section 4), from ``R = F_c``, in units of the logit. Every element of the map has the sign of the
logit, unless a shortcut adds values of opposite signs. Biases keep their part.
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.relevance import LAYERS, relevance, relevance_rules
from clearweight.exporter.explain.relevance_rule import zplus_rule


def lrp_zplus(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add LRP with the z+ rule at every layer."""
    rules = relevance_rules(dict.fromkeys(LAYERS, zplus_rule))
    return Attribution(relevance(emit, classifier, choice, rules, "lrp_zplus"))


EXPLAINER = Explainer(
    method="lrp_zplus",
    resolution="input",
    sign="signed",
    units="logit",
    baseline="none",
    attribute=lrp_zplus,
)
