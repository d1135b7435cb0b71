"""Gradient: the derivative of the explained logit with respect to the input (signed saliency).

``explain = dF_c / dx`` (Simonyan, Vedaldi, Zisserman, arXiv 1312.6034, section 3, without the absolute value).
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer


def gradient(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add the gradient of the explained logit with respect to the input."""
    if choice.layer is not None:
        raise NotApplicableError(f"Layer {choice.layer!r} was given, but gradient explains the input.")
    return Attribution(classifier.cotangents(emit, [classifier.x])[classifier.x])


EXPLAINER = Explainer(
    method="gradient",
    resolution="input",
    sign="signed",
    units="logit per input unit",
    baseline="none",
    attribute=gradient,
)
