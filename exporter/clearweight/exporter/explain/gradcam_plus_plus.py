"""Grad-CAM++: Grad-CAM whose channel weights count every place of evidence, however small.

``explain = relu(sum_k w_k A_k)``, ``w_k = sum_ij alpha_ij relu(g_ij)`` with ``g = dF_c / dA_k`` and
``alpha_ij = g_ij^2 / (2 g_ij^2 + sum_ab(A_ab) g_ij^3)`` (Chattopadhyay et al., WACV 2018, arXiv 1710.11063, equations
10, 13 and 19). The paper explains Y = exp(F_c), whose gradient is exp(F_c) g: that positive factor, the same for all
channels and places, is left out. ``g^2`` is cancelled, ``alpha = 1 / (2 + sum_ab(A_ab) g)``, which is the same number
wherever ``relu(g)`` does not remove it and, unlike the third power of a small gradient, cannot underflow. Where the
denominator is zero (only possible for features below zero) the weight is zero.
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.feature_map import feature_map, weighted_sum


def gradcam_plus_plus(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add Grad-CAM++ at a feature map [N, K, space...], by default the last one."""
    a = feature_map(emit, classifier, choice, "Grad-CAM++")
    g = classifier.cotangents(emit, [a])[a]
    space = list(range(2, emit.rank(a)))
    zero = emit.number(0, a)
    scale = emit.op("Add", emit.number(2, a), emit.op("Mul", emit.sum(a, space, keepdims=True), g))
    raised = emit.op("Div", emit.op("Relu", g), scale)
    alpha = emit.op("Where", emit.op("Equal", scale, zero), zero, raised)
    return Attribution(weighted_sum(emit, a, emit.sum(alpha, space, keepdims=True)), layer=a)


EXPLAINER = Explainer(
    method="gradcam_plus_plus",
    resolution="feature",
    sign="positive",
    units="feature x gradient, weighted and rectified",
    baseline="none",
    attribute=gradcam_plus_plus,
)
