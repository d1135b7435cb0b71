"""EWA: a feature map collapsed over its channels, all of them weighted equally.

``explain = mean_k A_k^2`` (Park et al., Attribution Preservation in Network Compression, NeurIPS 2020, section 3.2,
after Zagoruyko and Komodakis, ICLR 2017). It needs no gradient and is the same for every class: where the network
looks, not what for. It is the map that the objective term ``feature_matching`` of variant ``ewa`` preserves.
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.feature_map import feature_map


def ewa(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add the equally weighted map of a feature map [N, K, space...], by default the last one."""
    a = feature_map(emit, classifier, choice, "EWA")
    (channels,) = emit.sizes(a, [1], "EWA")
    total = emit.sum(emit.op("Mul", a, a), [1], keepdims=True)
    one = classifier.one_or_nan(emit, emit.rank(a))
    return Attribution(emit.op("Mul", total, emit.op("Div", one, emit.number(channels, a))), layer=a)


EXPLAINER = Explainer(
    method="ewa",
    resolution="feature",
    sign="positive",
    units="squared feature",
    baseline="none",
    attribute=ewa,
)
