"""Input x gradient, with the exact linear bias where the network is piecewise linear.

``explain = x o g, g = dF_c / dx`` with x after preprocessing. On a piecewise linear network the logit is
``F_c(x) = <g, x> + b_c`` (instance-wise linearisation: Li et al., arXiv 2310.16295), so the map and the bias add up
to the logit. The bias is computed a second time from the parameters, and what is missing is returned.
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.linear_bias import affine_nodes, difference, linear_bias, ones_term


def input_x_gradient(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add ``x o g``, and ``completeness_error = F_c - sum(x o g) - b_c`` where it must be zero."""
    if choice.layer is not None:
        raise NotApplicableError(
            f"Layer {choice.layer!r} was given, but input_x_gradient explains the input."
        )
    x = classifier.x
    nodes = affine_nodes(emit, x, classifier.logits)
    cotangents = classifier.cotangents(emit, [x])
    explain = emit.op("Mul", x, cotangents[x])
    if nodes is None:
        return Attribution(explain)
    logit = emit.op("Mul", classifier.logits, classifier.one_hot)
    # Of what a node needs, ONNX Runtime computes first what was added last. So the shares, which wait for the whole
    # walk back, come before the bias, whose sums are then taken on the way, while their maps are at hand.
    shares = ones_term(emit, emit.op("Flatten", explain))
    bias = linear_bias(emit, nodes, cotangents)
    missing = difference(emit, ones_term(emit, logit), [shares, *bias])
    return Attribution(explain, completeness_error=missing)


EXPLAINER = Explainer(
    method="input_x_gradient",
    resolution="input",
    sign="signed",
    units="logit",
    baseline="zero",
    attribute=input_x_gradient,
)
