"""Occlusion: what the explained logit loses when a window of the input is hidden.

``explain(p) = mean over the windows w that cover p of F_c(x) - F_c(x with w = baseline)`` (Zeiler and Fergus, ECCV
2014, section 4.2, with the logit instead of the probability). All channels are hidden together, so there is one number
for each place: the map is [N, 1, *space], or [N, D] of a flat input. No operator is differentiated.

On an affine network a window of one place gives ``sum over channels of w o (x - baseline)`` exactly.
"""

from math import prod

from clearweight.exporter.autodiff import Emit, ValueType
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer, Settings
from clearweight.exporter.explain.perturbation import Perturbation, Perturbed, credited_scores
from clearweight.exporter.explain.places import map_of_places, space_of
from clearweight.exporter.explain.windows import Windows, default_window, sliding_windows

BASELINE = "baseline"


def occlusion(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add the occlusion map of the input.

    Raises
    ------
    NotApplicableError
        The input has a free or no spatial axis, or the windows would leave places uncovered.
    """
    x = classifier.x
    space = space_of(emit, x)
    settings = window_settings(space, choice.settings)
    windows = sliding_windows(space, int(settings["window"]), int(settings["stride"]))
    emit.graph.add_input(BASELINE, ValueType(emit.graph.type(x).element, emit.shape(x)))
    asked = Perturbation(
        source=x,
        perturb=lambda inside, index: _hidden(inside, x, windows, space, index),
        count=emit.ints([len(windows)]),
        expected=len(windows),
        places=prod(space),
        reads=[BASELINE],
    )
    total = credited_scores(emit, classifier, asked, fall=True)
    cover = emit.number(windows.cover(space).reshape(1, -1), total)
    explained = map_of_places(emit, emit.op("Div", total, cover), x)
    return Attribution(explained, steps=len(windows), settings=settings)


def window_settings(space: tuple[int, ...], settings: Settings) -> Settings:
    """Fill what was left to the input's size: 0 stands for the default window, and for half a window as stride.

    Raises
    ------
    NotApplicableError
        A window or stride that is no whole number of places, or strides that leave places uncovered.
    """
    window = min(settings["window"] or default_window(space), max(space))
    stride = settings["stride"] or max(1, window // 2)
    for name, value in (("window", window), ("stride", stride)):
        if value < 1 or value != int(value):
            raise NotApplicableError(f"Occlusion has {name} {value:g}, expected a whole number of places.")
    if stride > window:
        raise NotApplicableError(
            f"Occlusion has stride {stride:g} for a window of {window:g}, which leaves places uncovered; expected at "
            "most the window."
        )
    return {"window": window, "stride": stride}


def _hidden(emit: Emit, x: str, windows: Windows, space: tuple[int, ...], index: str) -> Perturbed:
    """Hide windows ``index``: rows [k, N, *row] and masks [k, P] that are 1 inside the window."""
    starts = emit.op("Gather", emit.ints(windows.starts.tolist()), index, axis=0)
    ends = emit.op("Gather", emit.ints(windows.ends.tolist()), index, axis=0)
    inside: str | None = None
    for axis, length in enumerate(space):
        place = emit.ints(range(length))
        start, end = (emit.slice(edge, [1], [axis], [axis + 1], [1]) for edge in (starts, ends))
        along = emit.op("And", emit.op("GreaterOrEqual", place, start), emit.op("Less", place, end))
        spread = [1 if other != axis else length for other in range(len(space))]
        along = emit.op("Reshape", along, emit.ints([-1, *spread]))
        inside = along if inside is None else emit.op("And", inside, along)
    assert inside is not None  # noqa: S101 - space_of refuses inputs without an axis
    leading = emit.rank(x) - len(space)
    hidden = emit.op("Reshape", inside, emit.ints([-1, *[1] * leading, *space]))
    rows = emit.op("Where", hidden, BASELINE, x)
    flat = emit.op("Reshape", inside, emit.ints([-1, prod(space)]))
    return Perturbed(rows, emit.as_type_of(flat, x))


EXPLAINER = Explainer(
    method="occlusion",
    resolution="input",
    sign="signed",
    units="logit",
    baseline="input",
    attribute=occlusion,
    inputs=(BASELINE,),
    settings={"window": 0, "stride": 0},
)
