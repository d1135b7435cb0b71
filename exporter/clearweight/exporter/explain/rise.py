"""RISE: the mean of random masks, weighted by what the network says to the input behind them.

``explain(p) = 1 / (keep S) sum_i F_c(x o M_i) M_i(p)`` (Petsiuk et al., BMVC 2018, arXiv 1806.07421, equation 6, with
the logit instead of the probability; ``keep`` is E[M]). What is masked is zero after preprocessing. The map is
[N, 1, *space], or [N, D] of a flat input. No operator is differentiated.

A mask is a grid of g + 1 cells along each axis, kept (1) or hidden (0), laid over the input with cells of 1/g of its
length, shifted by a random part of a cell, and interpolated linearly between the cells' centres; beyond the outermost
centres it stays what it is there. Every value is a weighted mean of independent cells, so its expectation is ``keep``
at every place. (The authors' code stretches g cells over g + 1, which makes the cells at one edge rarer.)
"""

from math import prod

import numpy as np
import onnx

from clearweight.exporter.autodiff import Emit, ValueType
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.perturbation import Perturbation, Perturbed, credited_scores
from clearweight.exporter.explain.places import map_of_places, space_of

MASKS, SHIFTS = "masks", "shifts"
STEPS = 512


def rise(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add the RISE map of the input.

    Raises
    ------
    NotApplicableError
        The input has a free or no spatial axis, ``grid`` is no whole number, or ``keep`` is no probability above 0.
    """
    grid, keep = choice.settings["grid"], choice.settings["keep"]
    if grid < 1 or grid != int(grid):
        raise NotApplicableError(f"RISE has grid {grid:g}, expected a whole number of cells.")
    if not 0 < keep <= 1:
        raise NotApplicableError(f"RISE has keep {keep:g}, expected a probability above 0.")
    x = classifier.x
    space = space_of(emit, x)
    cells = int(grid)
    real = onnx.TensorProto.FLOAT
    emit.graph.add_input(MASKS, ValueType(real, ("S", *[cells + 1] * len(space))))
    emit.graph.add_input(SHIFTS, ValueType(real, ("S", len(space))))
    asked = Perturbation(
        source=x,
        perturb=lambda inside, index: _masked(inside, x, cells, space, index),
        count=emit.op("Slice", emit.op("Shape", MASKS), emit.ints([0]), emit.ints([1])),
        expected=STEPS,
        places=prod(space),
        reads=[MASKS, SHIFTS],
    )
    total = credited_scores(emit, classifier, asked)
    weight = emit.op("Mul", emit.as_type_of(asked.count, total), emit.number(keep, total))
    return Attribution(map_of_places(emit, emit.op("Div", total, weight), x))


def _masked(emit: Emit, x: str, cells: int, space: tuple[int, ...], index: str) -> Perturbed:
    """Mask by the grids ``index``: rows [k, N, *row] and the masks themselves [k, P]."""
    mask = emit.op("Gather", MASKS, index, axis=0)
    shifts = emit.op("Gather", SHIFTS, index, axis=0)
    for axis, length in enumerate(space):
        # The first axis goes last and becomes the input's: after one turn each, all have and stand in their order.
        order = [0, *range(2, len(space) + 1), 1]
        rest = [*[cells + 1] * (len(space) - axis - 1), *space[:axis]]
        lines = emit.op("Reshape", emit.transpose(mask, order), emit.ints([-1, prod(rest), cells + 1]))
        shift = emit.op("Unsqueeze", emit.slice(shifts, [1], [axis], [axis + 1], [1]), emit.ints([2]))
        spread = emit.op("MatMul", lines, _interpolation(emit, shift, cells, length))
        mask = emit.op("Reshape", spread, emit.ints([-1, *rest, length]))
    if emit.graph.type(x).element != onnx.TensorProto.FLOAT:
        mask = emit.as_type_of(mask, x)
    leading = emit.rank(x) - len(space)
    over_row = emit.op("Reshape", mask, emit.ints([-1, *[1] * leading, *space]))
    return Perturbed(emit.op("Mul", x, over_row), emit.op("Reshape", mask, emit.ints([-1, prod(space)])))


def _interpolation(emit: Emit, shift: str, cells: int, length: int) -> str:
    """Weights of the cells at each place of one axis, [k, g + 1, length]; each column sums to 1."""
    centre = (np.arange(length) + 0.5) * cells / length - 0.5
    position = emit.op("Add", shift, emit.number(centre.reshape(1, 1, -1), shift))
    position = emit.op("Clip", position, emit.number(0, shift), emit.number(cells, shift))
    apart = emit.op(
        "Abs", emit.op("Sub", position, emit.number(np.arange(cells + 1).reshape(1, -1, 1), shift))
    )
    return emit.op("Relu", emit.op("Sub", emit.number(1, shift), apart))


EXPLAINER = Explainer(
    method="rise",
    resolution="input",
    sign="signed",
    units="logit",
    baseline="zero",
    attribute=rise,
    inputs=(MASKS, SHIFTS),
    steps=STEPS,
    settings={"grid": 7, "keep": 0.5},
)
