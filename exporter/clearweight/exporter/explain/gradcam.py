"""Grad-CAM: which places of one feature map speak for the explained class.

``explain = relu(sum_k alpha_k A_k)``, ``alpha_k`` the spatial mean of ``dF_c / dA_k`` (Selvaraju et al., ICCV 2017,
arXiv 1610.02391, equations 1 and 2). Only the part of the network behind the feature map is differentiated; the
map keeps the feature map's resolution.
"""

from clearweight.exporter.autodiff import NON_DIFFERENTIABLE, Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer

# Operators that make channels out of an input; what lies before them is the input itself.
_FEATURE_OPS = frozenset({"Conv", "ConvTranspose"})


def gradcam(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add Grad-CAM at a feature map [N, K, space...], by default the last one.

    Raises
    ------
    NotApplicableError
        The network has no feature map, or the layer that was named is none.
    """
    features = _feature_maps(emit, classifier)
    if not features:
        raise NotApplicableError(
            "Grad-CAM needs a feature map with spatial axes before the logits; this network has none."
        )
    layer = choice.layer
    if layer is not None and layer not in features:
        raise NotApplicableError(
            f"Layer {layer!r} is no feature map of this network. Known: {', '.join(features)}."
        )
    a = features[-1] if layer is None else layer
    da = classifier.cotangents(emit, [a])[a]
    space = list(range(2, emit.rank(a)))
    count = emit.element_count(a, space)
    alpha = emit.op("Div", emit.sum(da, space, keepdims=True), count)
    weighted = emit.sum(emit.op("Mul", a, alpha), [1], keepdims=True)
    return Attribution(emit.op("Relu", weighted), layer=a)


def _feature_maps(emit: Emit, classifier: Classifier) -> list[str]:
    """List the values between input and logits that have channels and more than one place, in order."""
    rank = emit.rank(classifier.x)
    nodes = [node for node in emit.graph.nodes if node.key not in NON_DIFFERENTIABLE]
    needed = {classifier.logits}
    for node in reversed(nodes):
        if any(name in needed for name in node.outputs):
            needed.update(node.inputs)
    derived: set[str] = set()
    found = []
    for node in nodes:
        if node.key.op_type not in _FEATURE_OPS and not any(name in derived for name in node.inputs):
            continue
        derived.update(name for name in node.outputs if name)
        y = node.outputs[0]
        shape = emit.graph.type(y).shape
        if (
            y in needed
            and shape is not None
            and len(shape) == rank >= 3
            and any(size != 1 for size in shape[2:])
        ):
            found.append(y)
    return found


EXPLAINER = Explainer(
    method="gradcam",
    resolution="feature",
    sign="positive",
    units="logit per mean feature gradient, rectified",
    baseline="none",
    attribute=gradcam,
)
