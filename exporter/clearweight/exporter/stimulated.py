"""The units that a recipe asks about, each with the calibration inputs that excite it most."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.emission import Emitted
from clearweight.exporter.errors import RecipeError
from clearweight.exporter.explain import NotApplicableError, Unit, build
from clearweight.exporter.explain.stimulators import METHOD, Stimulator, stimulators
from clearweight.exporter.recipe import Recipe

_BATCH = 64

Stimulated = dict[Unit, list[Stimulator]]


def check_units(recipe: Recipe, model: onnx.ModelProto) -> None:
    """Build what projects each unit back, and throw it away: a unit that is not there is found before any training.

    Raises
    ------
    RecipeError
        The network has no such layer or channel, or cannot be projected back from it.
    """
    for unit in _units(recipe):
        with _named(unit):
            build(model, METHOD, unit=unit)


def stimulated(recipe: Recipe, emitted: Emitted, inputs: NDArray[np.float32]) -> Stimulated:
    """Find what excites each unit that the recipe's ``report.units`` names, as the reference numbers them.

    A channel that compression took out is left out.

    Raises
    ------
    RecipeError
        The network that ships has no such layer or channel, or cannot be projected back from it.
    """
    found: Stimulated = {}
    for unit in _units(recipe):
        batches = (inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH))
        kept = emitted.channels.get(unit.layer)
        at = np.arange(unit.channel + 1) if kept is None else np.array(kept)
        if unit.channel not in at:
            continue
        shipped = Unit(unit.layer, int(np.flatnonzero(at == unit.channel)[0]))
        with _named(unit):
            found[unit] = stimulators(emitted.predict, shipped, batches)
    return found


def _units(recipe: Recipe) -> list[Unit]:
    return [Unit(asked.layer, asked.channel) for asked in recipe.report.units]


@contextmanager
def _named(unit: Unit) -> Iterator[None]:
    try:
        yield
    except NotApplicableError as error:
        raise RecipeError(f"report.units: {unit.layer!r}, channel {unit.channel}: {error}") from error
