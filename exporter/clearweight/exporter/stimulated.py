"""The units that a recipe asks about, each with the calibration inputs that excite it most."""

import numpy as np
from numpy.typing import NDArray

from clearweight.exporter.emission import Emitted
from clearweight.exporter.errors import RecipeError
from clearweight.exporter.explain import NotApplicableError, Unit
from clearweight.exporter.explain.stimulators import Stimulator, stimulators
from clearweight.exporter.recipe import Recipe

_BATCH = 64

Stimulated = dict[Unit, list[Stimulator]]


def stimulated(recipe: Recipe, emitted: Emitted, inputs: NDArray[np.float32]) -> Stimulated:
    """Find what excites each unit that the recipe's ``report.units`` names.

    Raises
    ------
    RecipeError
        The network that ships has no such layer or channel, or cannot be projected back from it.
    """
    found: Stimulated = {}
    for asked in recipe.report.units:
        unit = Unit(asked.layer, asked.channel)
        batches = (inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH))
        try:
            found[unit] = stimulators(emitted.predict, unit, batches)
        except NotApplicableError as error:
            raise RecipeError(f"report.units: {asked.layer!r}, channel {asked.channel}: {error}") from error
    return found
