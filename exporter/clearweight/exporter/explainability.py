"""Whether an ONNX classifier can be explained: what it is, what stands in the way, what works, and the proof."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.autodiff import AutodiffError
from clearweight.exporter.errors import ExporterError
from clearweight.exporter.explain import EXPLAINERS, ExplainGraph, VerificationError, build, verify
from clearweight.exporter.explain.classifier import open_classifier
from clearweight.exporter.explain.linear_bias import affine_nodes
from clearweight.exporter.explain.obstacles import Obstacle, obstacles, without_rule
from clearweight.exporter.graph.errors import GraphError
from clearweight.exporter.graph.onnx_file import Facts, facts
from clearweight.exporter.own_model import OwnModel, prepare

DEFAULTS = ("gradient", "input_x_gradient")
"""The methods that must work and verify for a network to count as explainable."""
Watcher = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Method:
    """Whether one explainer works on the network, and why not; what its graph is where it does."""

    applicable: bool
    reason: str = ""
    layer: str | None = None
    steps: int = 0
    nodes: int = 0


@dataclass(frozen=True)
class Findings:
    """What there is to say about one network.

    Attributes
    ----------
    refused : why the model cannot be brought into the form that explainers take; "" if it can
    changes : what bringing it there did to it
    obstacles : nodes that the gradient cannot pass
    piecewise_linear : whether map and linear bias add up to the logit exactly; None where nobody can tell
    backward : operators that compute the gradient -> how many; the kernels that were chosen
    verification : method -> its record, or the text of its failure
    """

    facts: Facts
    refused: str = ""
    changes: tuple[str, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    piecewise_linear: bool | None = None
    methods: dict[str, Method] = field(default_factory=dict)
    backward: dict[str, int] = field(default_factory=dict)
    verification: dict[str, dict[str, Any] | str] = field(default_factory=dict)

    @property
    def explainable(self) -> bool:
        """Whether the default gradient methods work and verify."""
        return all(isinstance(self.verification.get(method), dict) for method in DEFAULTS)


def examine(
    source: onnx.ModelProto,
    samples: Callable[[OwnModel], NDArray[np.float32]],
    watch: Watcher = lambda _what, _done, _total: None,
) -> Findings:
    """Find out what can be explained about a model, without stopping at the first reason why something cannot.

    Parameters
    ----------
    samples : gives inputs to verify on, once it is known what the model takes
    watch : called as (what, done, total)
    """
    about = facts(source)
    try:
        own = prepare(source)
    except GraphError as error:
        return Findings(about, refused=str(error), obstacles=tuple(without_rule(source)))
    try:
        found = tuple(obstacles(own.classifier))
        emit, classifier = open_classifier(own.classifier)
    except ExporterError as error:
        return Findings(
            about, refused=str(error), changes=own.changes, obstacles=tuple(without_rule(own.classifier))
        )
    methods, graphs = {}, {}
    for done, method in enumerate(EXPLAINERS, start=1):
        methods[method], graph = _try(own, method)
        if graph is not None and method in DEFAULTS:
            graphs[method] = graph
        watch("methods tried", done, len(EXPLAINERS))
    taken = samples(own)
    verification: dict[str, dict[str, Any] | str] = {}
    for done, (method, graph) in enumerate(graphs.items(), start=1):
        try:
            verification[method] = asdict(verify(graph, own.classifier, taken, None))
        except VerificationError as error:
            verification[method] = str(error)
        watch("methods verified", done, len(graphs))
    return Findings(
        about,
        changes=own.changes,
        obstacles=found,
        piecewise_linear=affine_nodes(emit, classifier.x, classifier.logits) is not None,
        methods=methods,
        backward=_added(own.classifier, graphs["gradient"]) if "gradient" in graphs else {},
        verification=verification,
    )


def _try(own: OwnModel, method: str) -> tuple[Method, ExplainGraph | None]:
    try:
        graph = build(own.classifier, method)
    except AutodiffError as error:
        return Method(applicable=False, reason=str(error).partition(" Rules exist for")[0]), None
    except ExporterError as error:
        return Method(applicable=False, reason=str(error)), None
    nodes = len(graph.model.graph.node)
    return Method(applicable=True, layer=graph.layer, steps=graph.steps, nodes=nodes), graph


def _added(model: onnx.ModelProto, graph: ExplainGraph) -> dict[str, int]:
    """Count the operators that an explain graph has beyond the model's own, constants left out."""
    own = {name for node in model.graph.node for name in node.output}
    added = Counter(
        node.op_type
        for node in graph.model.graph.node
        if node.op_type != "Constant" and own.isdisjoint(node.output)
    )
    return dict(sorted(added.items()))
