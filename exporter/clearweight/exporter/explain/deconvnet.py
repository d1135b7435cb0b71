"""The deconvolutional network: the way back through the network, rectified as on the way forward.

``dx = relu(dy)`` at every ReLU whatever its input was; max pooling puts an element back where its maximum lay, and
convolutions are transposed (Zeiler and Fergus, ECCV 2014, arXiv 1311.2901, section 2.1), signed at the input. Where
there is no max pooling the map does not depend on the input, only on the class. A picture for the eye: it is nearly
the same for a network with random weights (Adebayo et al., NeurIPS 2018; Nie et al., ICML 2018).
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.rectifier import deconvnet_rule, require_rectifier, with_rectifiers


def deconvnet(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add the deconvolution of the explained logit down to the input."""
    if choice.layer is not None:
        raise NotApplicableError(f"Layer {choice.layer!r} was given, but deconvnet explains the input.")
    require_rectifier(emit, classifier, "deconvnet")
    found = classifier.cotangents(emit, [classifier.x], with_rectifiers(deconvnet_rule))
    return Attribution(found[classifier.x])


EXPLAINER = Explainer(
    method="deconvnet",
    resolution="input",
    sign="signed",
    units="logit per input unit, rectified on the way back",
    baseline="none",
    attribute=deconvnet,
)
