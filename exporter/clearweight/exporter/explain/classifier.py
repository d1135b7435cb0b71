"""The classifier inside an explain graph: its input, its logits, and the logit that is explained."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from clearweight.exporter.autodiff import (
    COMMITTED,
    NON_DIFFERENTIABLE,
    RULES,
    CostTable,
    Emit,
    Graph,
    OpKey,
    ValueType,
    pull_back,
)
from clearweight.exporter.autodiff.walker import Rule
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.unit import Unit, unit_scores
from clearweight.exporter.graph.matmul_nbits import standard_operators

TARGET, COTANGENT = "target", "cotangent"


@dataclass(frozen=True)
class Classifier:
    """Names of the values that every explainer starts from.

    Attributes
    ----------
    x : the input, [N, ...]
    logits : [N, C]; where a unit is explained, the scores of its layer's channels
    one_hot : 1 at the explained class of each row, 0 elsewhere, [N, C]; NaN in a row whose target is no class. For a
        contrast whatever weights the caller gives the logits: the explained score is always their weighted sum.
    chosen_by : the input of the graph that says what is explained, None for a unit
    """

    x: str
    logits: str
    one_hot: str
    chosen_by: str | None = TARGET

    def on(self, x: str, logits: str, one_hot: str) -> "Classifier":
        """Return the same network on other rows of the same run, or with another start of the walk back."""
        return Classifier(x, logits, one_hot)

    def cotangents(
        self, emit: Emit, wanted: Collection[str], rules: Mapping[OpKey, Rule] = RULES
    ) -> dict[str, str]:
        """Return the gradients of the explained logit to ``wanted`` and all that lies between.

        Other ``rules`` make of the same walk guided backpropagation or a deconvolutional network.

        Raises
        ------
        NotApplicableError
            The logits do not depend on one of them.
        """
        found = pull_back(emit, {self.logits: self.one_hot}, wanted, rules, NON_DIFFERENTIABLE)
        for name in wanted:
            if name not in found:
                raise NotApplicableError(
                    f"The output {self.logits!r} does not depend differentiably on {name!r}."
                )
        return found

    def one_or_nan(self, emit: Emit, rank: int) -> str:
        """Return [N, 1, ...]: 1, or NaN where the target is no class, for maps that do not depend on the target."""
        nothing = emit.op("Mul", emit.sum(self.one_hot, [1], keepdims=True), emit.number(0, self.one_hot))
        one = emit.op("Add", nothing, emit.number(1, nothing))
        return emit.op("Unsqueeze", one, emit.ints(list(range(2, rank)))) if rank > 2 else one


def open_classifier(
    model: onnx.ModelProto,
    *,
    unit: Unit | None = None,
    contrast: bool = False,
    costs: CostTable = COMMITTED,
) -> tuple[Emit, Classifier]:
    """Open a model for explaining and add the choice of what is explained.

    Parameters
    ----------
    model : packed products (MatMulNBits) are opened in their standard form
    unit : explain this channel instead of a logit
    contrast : take the weights of the logits as an input ``cotangent`` instead of a target
    costs : which kernel computes what

    Raises
    ------
    NotApplicableError
        The model is no classifier with one float input and logits [N, C], or there is no such unit.
    """
    graph = Graph(standard_operators(model))
    emit = Emit(graph, costs)
    if len(graph.inputs) != 1 or len(graph.outputs) < 1:
        raise NotApplicableError(
            f"The model has inputs {graph.inputs} and outputs {graph.outputs}, expected one input and logits."
        )
    x, logits = graph.inputs[0], graph.outputs[0]
    if unit is not None:
        scores = unit_scores(emit, unit)
        return emit, Classifier(x, scores, _channel(emit, scores, unit.channel), None)
    shape = graph.type(logits).shape
    if shape is None or len(shape) != 2 or not isinstance(shape[1], int):
        raise NotApplicableError(
            f"Output {logits!r} has shape {shape}, expected logits of shape (N, classes)."
        )
    if contrast:
        given = graph.add_input(COTANGENT, ValueType(onnx.TensorProto.FLOAT, shape))
        weights = (
            given if graph.type(logits).element == onnx.TensorProto.FLOAT else emit.as_type_of(given, logits)
        )
        return emit, Classifier(x, logits, weights, COTANGENT)
    graph.add_input(TARGET, ValueType(onnx.TensorProto.INT64, (shape[0],)))
    return emit, Classifier(x, logits, _one_hot(emit, logits, shape[1]))


def _one_hot(emit: Emit, logits: str, classes: int) -> str:
    """Turn the target into a cotangent of the logits: exact match, so that no wrong target looks right."""
    best = emit.op("ArgMax", logits, axis=1, keepdims=0)
    chosen = emit.op("Where", emit.op("Equal", TARGET, emit.ints(-1)), best, TARGET)
    column = emit.op("Unsqueeze", chosen, emit.ints([1]))
    match = emit.op("Equal", column, emit.ints(np.arange(classes)[None].tolist()))
    marked = emit.as_type_of(match, logits)
    # A target that is no class matches nothing: 0 / 0 makes its row NaN, where a zero map would look like an answer.
    one_hot = emit.op("Div", marked, emit.sum(marked, [1], keepdims=True))
    emit.one_hot.add(one_hot)
    return one_hot


def _channel(emit: Emit, scores: str, channel: int) -> str:
    """Mark one channel in every row."""
    (channels,) = emit.sizes(scores, [1], "a unit")
    row = emit.number(np.arange(channels)[None] == channel, scores)
    return emit.graph.narrow(emit.op("Expand", row, emit.shape_of(scores)), emit.shape(scores))
