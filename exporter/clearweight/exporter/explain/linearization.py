"""Instance-wise linearisation: the one matrix that a piecewise linear network is at this input.

``F(x) = W(x) x + b(x)``; ``explain`` is W for all classes, [N, C, *row], each class's gradient (Li et al., arXiv
2310.16295, equations 3 to 5), in units of the logit per input unit. ``b = F - W x`` follows from the map and the
logits; it is computed a second time layer by layer from the parameters (``linear_bias``), and
``completeness_error`` is the largest difference over the classes, whatever the target: the map does not depend on it.
Only networks that are piecewise linear have such a matrix.
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.linear_bias import affine_nodes, difference, linear_bias, ones_term
from clearweight.exporter.explain.rows import row_shape, run_again

_SYMBOL = "row_classes"


def linearization(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add every class's gradient: each row goes through the network once for each class.

    Raises
    ------
    NotApplicableError
        The network is not piecewise linear, or a layer was given.
    """
    if choice.layer is not None:
        raise NotApplicableError(f"Layer {choice.layer!r} was given, but linearization explains the input.")
    x = classifier.x
    row = row_shape(emit, classifier, "linearization")
    (classes,) = emit.sizes(classifier.logits, [1], "linearization")
    if affine_nodes(emit, x, classifier.logits) is None:
        raise NotApplicableError(
            "linearization needs a piecewise linear network; this one has an operator that is not "
            "(docs/explainers.md lists those that are)."
        )
    rows = _for_each_class(emit, x, classes)
    logits = run_again(emit, classifier, rows, "linear.")
    valid = emit.op("Unsqueeze", classifier.one_or_nan(emit, 2), emit.ints([2]))
    eye = emit.op("Mul", valid, _eye(emit, classes, classifier.logits))
    seed = emit.graph.narrow(emit.op("Reshape", eye, emit.ints([-1, classes])), (_SYMBOL, classes))
    copies = classifier.on(rows, logits, seed)
    cotangents = copies.cotangents(emit, [rows])
    w = cotangents[rows]
    nodes = affine_nodes(emit, rows, logits)
    if nodes is None:
        raise NotApplicableError(
            "The copy of the network lost the shape of its batch, expected it piecewise linear."
        )
    whole = ones_term(emit, emit.op("Mul", logits, seed))
    shares = ones_term(emit, emit.op("Flatten", emit.op("Mul", rows, w)))
    missing = difference(emit, whole, [shares, *linear_bias(emit, nodes, cotangents)])
    by_class = emit.op("Reshape", emit.op("Abs", missing), emit.ints([-1, classes]))
    # Pooling with one window takes the largest of a row; unlike ReduceMax it is written alike in every opset.
    worst = emit.op("GlobalMaxPool", emit.op("Unsqueeze", by_class, emit.ints([1])))
    batch = emit.shape(x)[0]
    explain = emit.graph.narrow(emit.op("Reshape", w, emit.ints([-1, classes, *row])), (batch, classes, *row))
    error = emit.graph.narrow(emit.op("Reshape", worst, emit.ints([-1])), (batch,))
    return Attribution(explain, completeness_error=error, steps=classes)


def _for_each_class(emit: Emit, x: str, classes: int) -> str:
    """Repeat each row for every class, [N C, *row], the classes of one row together."""
    row = emit.sizes(x, range(1, emit.rank(x)), "linearization")
    apart = emit.op("Unsqueeze", x, emit.ints([1]))
    spread = emit.op("Expand", apart, emit.ints([1, classes, *[1] * len(row)]))
    return emit.graph.narrow(emit.op("Reshape", spread, emit.ints([-1, *row])), (_SYMBOL, *row))


def _eye(emit: Emit, classes: int, like: str) -> str:
    """Return the unit matrix [1, C, C], written with C numbers."""
    index = emit.ints(list(range(classes)))
    same = emit.op("Equal", emit.op("Unsqueeze", index, emit.ints([1])), index)
    return emit.op("Unsqueeze", emit.as_type_of(same, like), emit.ints([0]))


EXPLAINER = Explainer(
    method="linearization",
    resolution="input",
    sign="signed",
    units="logit per input unit",
    baseline="none",
    attribute=linearization,
)
