"""Guided backpropagation: the gradient, of which each rectifier passes only the positive part.

``dx = 1[x > 0] relu(dy)`` at every ReLU (Springenberg et al., Striving for Simplicity, ICLR 2015 workshop, arXiv
1412.6806, section 3.4), signed at the input. Other rectifiers pass ``relu(dy)`` times their own derivative. A picture
for the eye: it is nearly the same for a network with random weights (Adebayo et al., NeurIPS 2018), so it says little
about the network and is no basis for comparing two.
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.rectifier import guided_rule, require_rectifier, with_rectifiers


def guided_backprop(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add guided backpropagation of the explained logit to the input."""
    if choice.layer is not None:
        raise NotApplicableError(f"Layer {choice.layer!r} was given, but guided_backprop explains the input.")
    require_rectifier(emit, classifier, "guided_backprop")
    found = classifier.cotangents(emit, [classifier.x], with_rectifiers(guided_rule))
    return Attribution(found[classifier.x])


EXPLAINER = Explainer(
    method="guided_backprop",
    resolution="input",
    sign="signed",
    units="logit per input unit, positive paths only",
    baseline="none",
    attribute=guided_backprop,
)
