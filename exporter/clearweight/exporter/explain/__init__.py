"""Explainers: each turns a classifier in ONNX into one graph that returns logits and map in one run.

``EXPLAINERS`` is the table; ``build`` makes a graph, ``verify`` proves it.
"""

from collections.abc import Mapping
from types import MappingProxyType

import onnx

from clearweight.exporter.autodiff import COMMITTED, CostTable
from clearweight.exporter.explain import (
    deconvnet,
    ewa,
    gradcam,
    gradcam_plus_plus,
    gradient,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    linearization,
    lrp_composite,
    lrp_epsilon,
    lrp_zplus,
    occlusion,
    reciprocam,
    rise,
    smoothgrad,
    swa,
    vargrad,
)
from clearweight.exporter.explain.classifier import open_classifier
from clearweight.exporter.explain.errors import (
    ExplainError,
    NotApplicableError,
    UnknownMethodError,
    VerificationError,
)
from clearweight.exporter.explain.explain_graph import Choice, Explainer, ExplainGraph
from clearweight.exporter.explain.prepacking import mostly_dense
from clearweight.exporter.explain.unit import Unit
from clearweight.exporter.explain.verification import verify

__all__ = [
    "EXPLAINERS",
    "Choice",
    "ExplainError",
    "ExplainGraph",
    "Explainer",
    "NotApplicableError",
    "Unit",
    "UnknownMethodError",
    "VerificationError",
    "build",
    "verify",
]

EXPLAINERS: Mapping[str, Explainer] = MappingProxyType(
    {
        entry.method: entry
        for entry in (
            gradient.EXPLAINER,
            input_x_gradient.EXPLAINER,
            linearization.EXPLAINER,
            integrated_gradients.EXPLAINER,
            smoothgrad.EXPLAINER,
            vargrad.EXPLAINER,
            deconvnet.EXPLAINER,
            guided_backprop.EXPLAINER,
            gradcam.EXPLAINER,
            gradcam_plus_plus.EXPLAINER,
            ewa.EXPLAINER,
            swa.EXPLAINER,
            lrp_epsilon.EXPLAINER,
            lrp_zplus.EXPLAINER,
            lrp_composite.EXPLAINER,
            occlusion.EXPLAINER,
            rise.EXPLAINER,
            reciprocam.EXPLAINER,
        )
    }
)

EXPLAIN = "explain"
COMPLETENESS_ERROR = "completeness_error"


def build(
    model: onnx.ModelProto,
    method: str,
    *,
    layer: str | None = None,
    settings: Mapping[str, float] = MappingProxyType({}),
    unit: Unit | None = None,
    contrast: bool = False,
    costs: CostTable = COMMITTED,
) -> ExplainGraph:
    """Build the explain graph of a classifier.

    Its initializers are exactly the model's, under their names; everything it adds is a Constant node or an
    operator of the standard domain.

    Parameters
    ----------
    model : classifier in the canonical form (``exporter.graph``): one float input [N, ...], logits [N, C]
    method : key of ``EXPLAINERS``
    layer : feature map for the methods that explain one; None takes the last
    settings : numbers to change from the method's defaults
    unit : explain this channel of a layer instead of a logit; the graph then has no ``target``
    contrast : explain a weighted sum of logits instead of one: the graph takes the weights as ``cotangent``,
        FLOAT [N, C], in the place of ``target``; +1 and -1 at two classes explain one against the other
    costs : which kernel computes what, by default as measured on x86 with AVX-512; it never changes the result

    Raises
    ------
    UnknownMethodError
        No such method, or no such setting of it.
    NotApplicableError
        The method does not work on this network, on this layer, or there is no such unit; or both ``unit`` and
        ``contrast`` were asked for.
    UnsupportedOpError
        The network has an operator that cannot be differentiated; the message names node and operator.
    """
    if method not in EXPLAINERS:
        raise UnknownMethodError(f"Unknown explainer {method!r}. Known: {', '.join(EXPLAINERS)}.")
    explainer = EXPLAINERS[method]
    unknown = sorted(set(settings) - set(explainer.settings))
    if unknown:
        known = ", ".join(explainer.settings) or "none"
        raise UnknownMethodError(f"Explainer {method!r} has no setting {unknown[0]!r}. Known: {known}.")
    choice = Choice(layer, {**explainer.settings, **settings})
    if unit is not None and contrast:
        raise NotApplicableError("A unit and a contrast of logits were asked for, expected one of them.")
    emit, classifier = open_classifier(model, unit=unit, contrast=contrast, costs=costs)
    made = explainer.attribute(emit, classifier, choice)
    own_outputs = emit.graph.outputs
    outputs = [EXPLAIN, *own_outputs]
    emit.graph.export(made.explain, EXPLAIN)
    if made.completeness_error is not None:
        emit.graph.export(made.completeness_error, COMPLETENESS_ERROR)
        outputs.append(COMPLETENESS_ERROR)
    shape = emit.shape(EXPLAIN)
    chosen_by = [] if classifier.chosen_by is None else [classifier.chosen_by]
    written = emit.graph.model([*chosen_by, *explainer.inputs], outputs)
    steps = made.steps or explainer.steps
    return ExplainGraph(
        model=written,
        method=method,
        resolution=explainer.resolution,
        layer=made.layer,
        map_shape=tuple(size if isinstance(size, int) else -1 for size in shape),
        sign=explainer.sign,
        units=explainer.units,
        baseline=explainer.baseline,
        inputs=explainer.inputs,
        steps=steps,
        settings=dict(made.settings or choice.settings),
        completeness=made.completeness_error is not None,
        gradient_ste=emit.straight_through,
        unit=unit,
        prepacked=costs.prepacks(dense=mostly_dense(written, rows=steps)),
    )
