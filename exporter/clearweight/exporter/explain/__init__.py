"""Explainers: each turns a classifier in ONNX into one graph that returns logits and map in one run.

``EXPLAINERS`` is the table; ``build`` makes a graph, ``verify`` proves it.
"""

from collections.abc import Mapping
from types import MappingProxyType

import onnx

from clearweight.exporter.explain import gradcam, gradient, input_x_gradient
from clearweight.exporter.explain.classifier import TARGET, open_classifier
from clearweight.exporter.explain.errors import (
    ExplainError,
    NotApplicableError,
    UnknownMethodError,
    VerificationError,
)
from clearweight.exporter.explain.explain_graph import Choice, Explainer, ExplainGraph
from clearweight.exporter.explain.verification import verify

__all__ = [
    "EXPLAINERS",
    "Choice",
    "ExplainError",
    "ExplainGraph",
    "Explainer",
    "NotApplicableError",
    "UnknownMethodError",
    "VerificationError",
    "build",
    "verify",
]

EXPLAINERS: Mapping[str, Explainer] = MappingProxyType(
    {entry.method: entry for entry in (gradient.EXPLAINER, input_x_gradient.EXPLAINER, gradcam.EXPLAINER)}
)

EXPLAIN = "explain"
COMPLETENESS_ERROR = "completeness_error"


def build(
    model: onnx.ModelProto,
    method: str,
    *,
    layer: str | None = None,
    settings: Mapping[str, float] = MappingProxyType({}),
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

    Raises
    ------
    UnknownMethodError
        No such method, or no such setting of it.
    NotApplicableError
        The method does not work on this network, or on this layer.
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
    emit, classifier = open_classifier(model)
    made = explainer.attribute(emit, classifier, choice)
    own_outputs = emit.graph.outputs
    outputs = [EXPLAIN, *own_outputs]
    emit.graph.export(made.explain, EXPLAIN)
    if made.completeness_error is not None:
        emit.graph.export(made.completeness_error, COMPLETENESS_ERROR)
        outputs.append(COMPLETENESS_ERROR)
    shape = emit.shape(EXPLAIN)
    return ExplainGraph(
        model=emit.graph.model([TARGET, *explainer.inputs], outputs),
        method=method,
        resolution=explainer.resolution,
        layer=made.layer,
        map_shape=tuple(size if isinstance(size, int) else -1 for size in shape),
        sign=explainer.sign,
        units=explainer.units,
        baseline=explainer.baseline,
        inputs=explainer.inputs,
        steps=explainer.steps,
        settings=dict(choice.settings),
        completeness=made.completeness_error is not None,
    )
