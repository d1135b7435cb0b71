"""What is written down of an explain graph: its conventions, its inputs, and how it was verified.

The same record stands in the manifest of an artifact and in the ``explain.json`` beside graphs of a user's own model.
"""

import onnx

from clearweight.artifact import Explainer, Verification
from clearweight.exporter.explain.explain_graph import ExplainGraph


def record(graph: ExplainGraph, verification: Verification) -> Explainer:
    """Return what the manifest says of an explain graph."""
    return Explainer(
        file=f"explain.{graph.method}.onnx",
        method=graph.method,
        target_rule="argmax",
        sign=graph.sign,
        units=graph.units,
        baseline=graph.baseline,
        inputs=graph.inputs,
        steps=graph.steps,
        settings={name: float(value) for name, value in graph.settings.items()},
        gradient_ste=graph.gradient_ste,
        resolution=graph.resolution,
        layer=graph.layer,
        map_shape=tuple(graph.map_shape),
        completeness=graph.completeness,
        verification=verification,
        prepacked=None if graph.prepacked else False,
    )


def graph_of(record: Explainer, model: onnx.ModelProto) -> ExplainGraph:
    """Return a graph that was written together with its record: the inverse of ``record``."""
    return ExplainGraph(
        model=model,
        method=record.method,
        resolution="input" if record.resolution == "input" else "feature",
        layer=record.layer,
        map_shape=record.map_shape,
        sign="signed" if record.sign == "signed" else "positive",
        units=record.units,
        baseline=record.baseline,
        inputs=record.inputs,
        steps=record.steps,
        settings=record.settings,
        completeness=record.completeness,
        gradient_ste=record.gradient_ste,
        prepacked=record.prepacked is not False,
    )
