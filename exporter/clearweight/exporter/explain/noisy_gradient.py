"""Gradients at noisy copies of the input: what SmoothGrad averages and VarGrad takes the variance of."""

import onnx

from clearweight.exporter.autodiff import Emit, ValueType
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Choice
from clearweight.exporter.explain.rows import by_step, flatten_steps, repeat, row_shape, run_again

NOISE, SIGMA = "noise", "sigma"
_FLOAT = onnx.TensorProto.FLOAT


def noisy_gradients(emit: Emit, classifier: Classifier, choice: Choice, method: str) -> str:
    """Add the gradients of the explained logit at ``x + sigma (max x - min x) noise``: [S, N D], one line per draw.

    The range is that of each row by itself; a constant row gets no noise. The class is the one that wins at x itself.

    Raises
    ------
    NotApplicableError
        A layer was given, or ``sigma`` is not above zero.
    """
    if choice.layer is not None:
        raise NotApplicableError(f"Layer {choice.layer!r} was given, but {method} explains the input.")
    sigma = choice.settings[SIGMA]
    if not sigma > 0:
        raise NotApplicableError(
            f"{method} has sigma {sigma:g}, expected a share of the input's range above 0."
        )
    x = classifier.x
    row = row_shape(emit, classifier, method)
    noise = emit.graph.add_input(NOISE, ValueType(_FLOAT, ("S", *row)))
    steps = emit.op("Slice", emit.op("Shape", noise), emit.ints([0]), emit.ints([1]))
    if emit.graph.type(x).element != _FLOAT:
        noise = emit.as_type_of(noise, x)
    width = emit.op("Mul", _row_range(emit, x), emit.number(sigma, x))
    moved = emit.op("Mul", emit.op("Unsqueeze", noise, emit.ints([1])), width)
    draws = emit.graph.narrow(emit.op("Add", x, moved), ("S", *emit.shape(x)))
    rows = flatten_steps(emit, draws, "draws")
    noisy = classifier.on(
        rows, run_again(emit, classifier, rows, "noisy."), repeat(emit, classifier.one_hot, steps, "draws")
    )
    return by_step(emit, noisy.cotangents(emit, [rows])[rows], steps)


def as_map(emit: Emit, lines: str, like: str) -> str:
    """Give [1, N D] the input's shape."""
    row = emit.sizes(like, range(1, emit.rank(like)), "a map of the input")
    return emit.graph.narrow(emit.op("Reshape", lines, emit.ints([-1, *row])), emit.shape(like))


def mean_of_draws(emit: Emit, lines: str) -> str:
    """Average [S, M] over its lines, [1, M]."""
    count = emit.op("Slice", emit.op("Shape", lines), emit.ints([0]), emit.ints([1]))
    return emit.op("Div", emit.sum(lines, [0], keepdims=True), emit.as_type_of(count, lines))


def _row_range(emit: Emit, x: str) -> str:
    """Return the largest less the smallest element of each row, in as many axes as ``x``."""
    flat = emit.op("Flatten", x)
    ends = []
    for reduction in ("ReduceMax", "ReduceMin"):
        # Their axes became an input with opset 18.
        given = {} if emit.graph.opset >= 18 else {"axes": [1]}
        axes = [emit.ints([1])] if emit.graph.opset >= 18 else []
        ends.append(emit.op(reduction, flat, *axes, keepdims=1, **given))
    width = emit.op("Sub", *ends)
    return emit.op("Reshape", width, emit.ints([-1, *[1] * (emit.rank(x) - 1)]))
