"""SWA: a feature map collapsed over its channels, each weighted by how sensitive the logit is to it.

``explain = relu(sum_k alpha_k A_k)``, ``alpha_k`` the spatial sum of ``dF_c / dA_k`` (Park et al., Attribution
Preservation in Network Compression, NeurIPS 2020, section 3.2): Grad-CAM times the number of places. It is the map
that the objective term ``feature_matching`` of variant ``swa`` preserves.
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.feature_map import feature_map, weighted_sum


def swa(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add the sensitivity-weighted map of a feature map [N, K, space...], by default the last one."""
    a = feature_map(emit, classifier, choice, "SWA")
    da = classifier.cotangents(emit, [a])[a]
    alpha = emit.sum(da, range(2, emit.rank(a)), keepdims=True)
    return Attribution(weighted_sum(emit, a, alpha), layer=a)


EXPLAINER = Explainer(
    method="swa",
    resolution="feature",
    sign="positive",
    units="logit, rectified",
    baseline="none",
    attribute=swa,
)
