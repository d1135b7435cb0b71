"""LRP-epsilon: the logit handed down layer by layer, to each input in proportion to what it contributed.

``R_i = a_i sum_j w_ij R_j / (z_j + epsilon sign z_j)`` at every layer, from ``R = F_c`` at the logit down to the input
(Bach et al., PLoS ONE 2015, equation 58), signed, in units of the logit. Biases keep their part: without biases the
map adds up to the logit but for epsilon, with biases it does not. ``epsilon`` is absolute.
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.relevance import LAYERS, relevance, relevance_rules
from clearweight.exporter.explain.relevance_rule import STABILIZER, epsilon_rule

EPSILON = "epsilon"


def lrp_epsilon(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add LRP with the epsilon rule at every layer."""
    epsilon = stated_epsilon(choice, "lrp_epsilon")
    rules = relevance_rules(dict.fromkeys(LAYERS, epsilon_rule(epsilon)))
    return Attribution(relevance(emit, classifier, choice, rules, "lrp_epsilon"))


def stated_epsilon(choice: Choice, method: str) -> float:
    """Read ``epsilon``.

    Raises
    ------
    NotApplicableError
        It is not above zero.
    """
    epsilon = choice.settings[EPSILON]
    if not epsilon > 0:
        raise NotApplicableError(f"{method} has epsilon {epsilon:g}, expected a number above 0.")
    return epsilon


EXPLAINER = Explainer(
    method="lrp_epsilon",
    resolution="input",
    sign="signed",
    units="logit",
    baseline="none",
    attribute=lrp_epsilon,
    settings={EPSILON: STABILIZER},
)
