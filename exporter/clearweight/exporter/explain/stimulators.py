"""What excites one unit most: the inputs of a data set with the largest activations of a channel, each with its map.

Zeiler and Fergus (ECCV 2014, arXiv 1311.2901, section 4.1) show the nine strongest inputs of a feature map, cut to
what its strongest place sees, beside their projection by the deconvolutional network.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.autodiff import Emit, Graph
from clearweight.exporter.explain import EXPLAINERS, build
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.receptive_field import receptive_field
from clearweight.exporter.explain.unit import Unit, unit_scores
from clearweight.exporter.graph import session

METHOD = "deconvnet"
"""What projects a unit back, unless told otherwise."""
_TOP = 9


@dataclass(frozen=True, eq=False)
class Stimulator:
    """One input that excites a unit.

    Attributes
    ----------
    index : in the data set
    activation : the unit's largest one over all places
    place : where in the feature map it is, the first of several; empty for a dense layer
    crop : what that place can see of the input, one slice per spatial axis; all of it for a dense layer
    input : the whole input (channels, space...)
    map : of the unit at this input, the input's shape: cut both by ``[:, *crop]``
    """

    index: int
    activation: float
    place: tuple[int, ...]
    crop: tuple[slice, ...]
    input: NDArray[np.float32]
    map: NDArray[np.float32]


def stimulators(
    model: onnx.ModelProto,
    unit: Unit,
    batches: Iterable[NDArray[np.float32]],
    *,
    count: int = _TOP,
    method: str = METHOD,
) -> list[Stimulator]:
    """Find the inputs that excite a unit most.

    Parameters
    ----------
    model : classifier in the canonical form
    batches : the data set, preprocessed, (n, ...) at a time; only the best ``count`` inputs are kept
    method : of ``EXPLAINERS``, an input-level one that takes nothing but the input

    Returns
    -------
    At most ``count``, the strongest first; of equal activations the earlier input.

    Raises
    ------
    NotApplicableError
        There is no such unit, or the method does not fit.
    ValueError
        ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"Asked for {count} stimulators, expected at least 1.")
    if method in EXPLAINERS and (EXPLAINERS[method].inputs or EXPLAINERS[method].resolution != "input"):
        raise NotApplicableError(
            f"Method {method!r} takes more than the input or explains a layer; try deconvnet."
        )
    emit = Emit(Graph(model))
    x, scores = emit.graph.inputs[0], unit_scores(emit, unit)
    running = session(_returning(emit, unit.layer, scores))
    best: list[tuple[float, int, NDArray[Any], NDArray[np.float32]]] = []
    seen = 0
    for batch in batches:
        layer, found = running.run(None, {x: batch})
        column = found[:, unit.channel]
        best += [
            (float(column[row]), seen + int(row), layer[row, unit.channel], batch[row])
            for row in np.argsort(-column, kind="stable")[:count]
        ]
        best = sorted(best, key=lambda entry: (-entry[0], entry[1]))[:count]
        seen += len(batch)
    if not best:
        return []
    maps = session(build(model, method, unit=unit).model).run(
        ["explain"], {x: np.stack([entry[3] for entry in best])}
    )[0]
    field = receptive_field(emit, x, unit.layer)
    result = []
    for (activation, index, layer, given), one in zip(best, maps, strict=True):
        place = tuple(int(at) for at in np.unravel_index(layer.argmax(), layer.shape)) if layer.ndim else ()
        crop = field.at(place) if place else field.at((0,) * len(field.sizes))
        result.append(Stimulator(index, activation, place, crop, given, one))
    return result


def _returning(emit: Emit, layer: str, scores: str) -> onnx.ModelProto:
    """Return the network up to a layer and its scores; a layer that is its own score leaves twice."""
    emit.graph.export(layer, "unit.layer")
    emit.graph.export(scores, "unit.scores")
    return emit.graph.model([], ["unit.layer", "unit.scores"])
