"""The classifier inside an explain graph: its input, its logits, and the logit that is explained."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from clearweight.exporter.autodiff import NON_DIFFERENTIABLE, RULES, Emit, Graph, OpKey, ValueType, pull_back
from clearweight.exporter.autodiff.walker import Rule
from clearweight.exporter.explain.errors import NotApplicableError

TARGET = "target"


@dataclass(frozen=True)
class Classifier:
    """Names of the values that every explainer starts from.

    Attributes
    ----------
    x : the input, [N, ...]
    logits : [N, C]
    one_hot : 1 at the explained class of each row, 0 elsewhere, [N, C]; NaN in a row whose target is no class
    """

    x: str
    logits: str
    one_hot: str

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


def open_classifier(model: onnx.ModelProto) -> tuple[Emit, Classifier]:
    """Open a model for explaining and add the choice of the target.

    Raises
    ------
    NotApplicableError
        The model is no classifier with one float input and logits [N, C].
    """
    graph = Graph(model)
    emit = Emit(graph)
    if len(graph.inputs) != 1 or len(graph.outputs) < 1:
        raise NotApplicableError(
            f"The model has inputs {graph.inputs} and outputs {graph.outputs}, expected one input and logits."
        )
    x, logits = graph.inputs[0], graph.outputs[0]
    shape = graph.type(logits).shape
    if shape is None or len(shape) != 2 or not isinstance(shape[1], int):
        raise NotApplicableError(
            f"Output {logits!r} has shape {shape}, expected logits of shape (N, classes)."
        )
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
    return emit.op("Div", marked, emit.sum(marked, [1], keepdims=True))
