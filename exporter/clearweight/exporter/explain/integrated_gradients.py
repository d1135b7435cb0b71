"""Integrated gradients: the gradient's mean along the straight line from a baseline to the input.

``explain = (x - x') o sum_k w_k g(x' + a_k (x - x'))`` (Sundararajan, Taly, Yan, ICML 2017, arXiv 1703.01365,
equation 1), signed, in units of the logit. ``path`` holds the a_k in [0, 1] and ``path_weight`` the w_k, which sum to
1: ``artifact.explain_inputs`` makes Gauss-Legendre points. The class is explained that wins at x (or the target's) at
every point of the path.

``completeness_error = F_c(x) - F_c(x') - sum of the map`` is the error of the quadrature: zero on a network that is
linear along the path, and smaller, though not steadily, with more steps.
"""

import onnx

from clearweight.exporter.autodiff import Emit, ValueType
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.rows import by_step, flatten_steps, repeat, row_shape, run_again

BASELINE, PATH, PATH_WEIGHT = "baseline", "path", "path_weight"
_FLOAT = onnx.TensorProto.FLOAT


def integrated_gradients(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add integrated gradients: one batch holds every point of every row's path."""
    if choice.layer is not None:
        raise NotApplicableError(
            f"Layer {choice.layer!r} was given, but integrated_gradients explains the input."
        )
    x = classifier.x
    row = row_shape(emit, classifier, "integrated_gradients")
    given = emit.graph.add_input(BASELINE, ValueType(_FLOAT, emit.shape(x)))
    path = emit.graph.add_input(PATH, ValueType(_FLOAT, ("S",)))
    weight = emit.graph.add_input(PATH_WEIGHT, ValueType(_FLOAT, ("S",)))
    if emit.graph.type(x).element != _FLOAT:
        given, path, weight = (emit.as_type_of(value, x) for value in (given, path, weight))
    steps = emit.op("Shape", path)
    way = emit.op("Sub", x, given)
    share = emit.op("Reshape", path, emit.ints([-1, *[1] * emit.rank(x)]))
    points = emit.op("Add", given, emit.op("Mul", share, way))
    rows = flatten_steps(emit, emit.graph.narrow(points, ("S", *emit.shape(x))), "path_points")
    at_points = classifier.on(
        rows,
        run_again(emit, classifier, rows, "path."),
        repeat(emit, classifier.one_hot, steps, "path_points"),
    )
    lines = by_step(emit, at_points.cotangents(emit, [rows])[rows], steps)
    mean = emit.op("MatMul", emit.op("Unsqueeze", weight, emit.ints([0])), lines)
    mean = emit.graph.narrow(emit.op("Reshape", mean, emit.ints([-1, *row])), emit.shape(x))
    explain = emit.op("Mul", way, mean)
    fall = emit.op("Sub", classifier.logits, run_again(emit, classifier, given, "baseline."))
    rise = emit.sum(emit.op("Mul", fall, classifier.one_hot), [1], keepdims=False)
    total = emit.sum(explain, range(1, emit.rank(x)), keepdims=False)
    return Attribution(explain, completeness_error=emit.op("Sub", rise, total))


EXPLAINER = Explainer(
    method="integrated_gradients",
    resolution="input",
    sign="signed",
    units="logit",
    baseline="input",
    attribute=integrated_gradients,
    inputs=(BASELINE, PATH, PATH_WEIGHT),
    steps=32,
)
