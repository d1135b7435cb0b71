"""Scores of many perturbed rows in one run: the forward-only explainers' engine.

Row k of an input is perturbed in the k-th way; the explained logit it gets is credited to the places that its mask
marks. Where all perturbed rows fit in memory they go through a second copy of the network as one batch. Where they do
not, an ONNX Loop takes as many at a time as fit. The loop costs time as well: ONNX Runtime stores the weights of
convolutions in its own layout only for initializers of the graph itself, so inside a loop, whose weights belong to the
graph round it, a convolution takes 1.5 to 2.4 times as long on x86 (matrix products take the same). Hence the batch
comes first and the loop is for what is too large.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from clearweight.exporter.autodiff import Emit, Graph, ValueType
from clearweight.exporter.autodiff.value_type import to_proto
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.network_part import NetworkPart, behind, renamed

BATCH_BYTES = 64 * 2**20
"""A batch whose largest value stays below this for one input goes through the network at once."""
CHUNK_BYTES = 16 * 2**20
"""Larger ones go in chunks whose largest value is about this, however many inputs there are."""
_ELEMENT_BYTES = 4
_COPY = "perturbed."


@dataclass(frozen=True)
class Perturbed:
    """Perturbed rows, and where their scores are credited.

    Attributes
    ----------
    rows : [k, N, *row], row n perturbed in k ways
    masks : [k, P], how much of a score each of P places gets
    """

    rows: str
    masks: str


@dataclass(frozen=True, eq=False)
class Perturbation:
    """How rows are perturbed.

    Attributes
    ----------
    source : the value that is perturbed, the input or a feature map
    perturb : ``(emit, index) -> Perturbed`` for INT64 ``index`` [k]; may read ``source`` and ``reads`` alone
    count : number of ways, INT64 [1]
    expected : about how many that will be
    places : P
    reads : further values of the graph that ``perturb`` reads
    """

    source: str
    perturb: Callable[[Emit, str], Perturbed]
    count: str
    expected: int
    places: int
    reads: Sequence[str] = ()


def credited_scores(emit: Emit, classifier: Classifier, asked: Perturbation, *, fall: bool = False) -> str:
    """Add up mask x score over all perturbed rows, [N, P].

    The score is the explained logit of the perturbed row or, with ``fall``, what it falls short of the whole row's.

    Raises
    ------
    NotApplicableError
        The batch is not free, or the logits do not depend on ``source`` alone.
    """
    part = behind(emit, asked.source, classifier.logits)
    batch = emit.shape(classifier.x)[0]
    if isinstance(batch, int):
        raise NotApplicableError(
            f"Input {classifier.x!r} has a fixed batch of {batch}; perturbed rows need a free one."
        )
    if asked.expected * part.largest * _ELEMENT_BYTES <= BATCH_BYTES:
        index = emit.op("Range", emit.ints(0), _scalar(emit, asked.count), emit.ints(1))
        return _contribution(emit, classifier, part, asked, index, fall=fall)
    return _looped(emit, classifier, part, asked, fall=fall)


def _contribution(
    emit: Emit, classifier: Classifier, part: NetworkPart, asked: Perturbation, index: str, *, fall: bool
) -> str:
    """Perturb in the ways ``index``, run, and credit: [N, P]."""
    made = asked.perturb(emit, index)
    row = emit.sizes(asked.source, range(1, emit.rank(asked.source)), "a perturbation of its rows")
    rows = emit.op("Reshape", made.rows, emit.ints([-1, *row]))
    logits = _run_again(emit, part, rows)
    counts = emit.op("Concat", emit.op("Shape", index), emit.op("Shape", classifier.one_hot), axis=0)
    logits = emit.op("Reshape", logits, counts)
    if fall:
        logits = emit.op("Sub", classifier.logits, logits)
    # The product with NaN carries a target that is no class into the map.
    score = emit.sum(emit.op("Mul", logits, classifier.one_hot), [2], keepdims=False)
    return emit.op("MatMul", emit.transpose(score, [1, 0]), made.masks)


def _run_again(emit: Emit, part: NetworkPart, rows: str) -> str:
    """Add a copy of the network that reads ``rows`` instead of its source."""
    names = {name: f"{_COPY}{name}" for name in part.types} | {part.source: rows}
    emit.graph.add_nodes(
        [renamed(node, names, _COPY) for node in part.nodes],
        {names[name]: value for name, value in part.types.items()},
    )
    return names[part.result]


def _looped(emit: Emit, classifier: Classifier, part: NetworkPart, asked: Perturbation, *, fall: bool) -> str:
    """Credit chunk by chunk, in a Loop that carries the sum."""
    at_once = max(1, CHUNK_BYTES // (part.largest * _ELEMENT_BYTES))
    rows = emit.op("Slice", emit.op("Shape", classifier.x), emit.ints([0]), emit.ints([1]))
    size = emit.op("Max", emit.op("Div", emit.ints([at_once]), rows), emit.ints([1]))
    chunks = emit.op("Div", emit.op("Sub", emit.op("Add", asked.count, size), emit.ints([1])), size)
    kind = ValueType(emit.graph.type(classifier.logits).element, (None, asked.places))
    zero = onnx.helper.make_tensor("zero", kind.element, [1], [0])
    start = emit.op("ConstantOfShape", emit.op("Concat", rows, emit.ints([asked.places]), axis=0), value=zero)
    body = _body(emit, classifier, part, asked, size=size, kind=kind, fall=fall)
    total = f"{_COPY}total"
    loop = onnx.helper.make_node("Loop", [_scalar(emit, chunks), "", start], [total], total, body=body)
    emit.graph.add_nodes([loop], {total: kind})
    return total


def _body(
    emit: Emit,
    classifier: Classifier,
    part: NetworkPart,
    asked: Perturbation,
    *,
    size: str,
    kind: ValueType,
    fall: bool,
) -> onnx.GraphProto:
    """Write the loop's body: one more chunk added to the sum.

    It is grown like any graph, with what it reads of the graph round it declared as inputs, so that every node is
    typed; these declarations are then taken away, which leaves the names to be found outside.
    """
    captured = [
        asked.source,
        *asked.reads,
        *part.parameters,
        asked.count,
        size,
        classifier.one_hot,
        classifier.logits,
    ]
    own = {
        f"{_COPY}chunk": ValueType(onnx.TensorProto.INT64, ()),
        f"{_COPY}going": ValueType(onnx.TensorProto.BOOL, ()),
        f"{_COPY}before": kind,
    }
    declared = onnx.ModelProto(ir_version=emit.graph.ir_version)
    declared.opset_import.extend(emit.graph.opset_imports)
    declared.graph.name = f"{_COPY}chunk"
    for name, value in own.items() | {name: emit.graph.type(name) for name in captured}.items():
        declared.graph.input.add(name=name).type.CopyFrom(to_proto(value))
    inside = Emit(Graph(declared))
    chunk, going, before = own
    first = inside.op("Mul", chunk, size)
    last = inside.op("Min", inside.op("Add", first, size), asked.count)
    index = inside.op("Range", _scalar(inside, first), _scalar(inside, last), inside.ints(1))
    more = _contribution(inside, classifier, part, asked, index, fall=fall)
    outputs = [inside.op("Identity", going), inside.op("Add", before, more)]
    body = inside.graph.model([], outputs).graph
    names = {
        name: f"{_COPY}{name}"
        for node in body.node
        for name in node.output
        if name and not name.startswith(_COPY)
    }
    nodes = [renamed(node, names, _COPY) for node in body.node]
    del body.node[:]
    body.node.extend(nodes)
    for output in body.output:
        output.name = names[output.name]
    kept = [value for value in body.input if value.name in own]
    del body.input[:]
    body.input.extend(sorted(kept, key=lambda value: list(own).index(value.name)))
    return body


def _scalar(emit: Emit, value: str) -> str:
    """Take the one element of [1] out of its axis."""
    return emit.op("Squeeze", value, emit.ints([0]))
