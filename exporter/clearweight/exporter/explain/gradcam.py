"""Grad-CAM: which places of one feature map speak for the explained class.

``explain = relu(sum_k alpha_k A_k)``, ``alpha_k`` the spatial mean of ``dF_c / dA_k`` (Selvaraju et al., ICCV 2017,
arXiv 1610.02391, equations 1 and 2). Only the part of the network behind the feature map is differentiated; the
map keeps the feature map's resolution.
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.feature_map import feature_map, weighted_sum


def gradcam(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add Grad-CAM at a feature map [N, K, space...], by default the last one."""
    a = feature_map(emit, classifier, choice, "Grad-CAM")
    da = classifier.cotangents(emit, [a])[a]
    space = list(range(2, emit.rank(a)))
    alpha = emit.op("Div", emit.sum(da, space, keepdims=True), emit.element_count(a, space))
    return Attribution(weighted_sum(emit, a, alpha), layer=a)


EXPLAINER = Explainer(
    method="gradcam",
    resolution="feature",
    sign="positive",
    units="logit per mean feature gradient, rectified",
    baseline="none",
    attribute=gradcam,
)
