"""A device profile: what the kernels of explain graphs cost on one machine, measured there, named in a recipe.

Export itself never times anything. ``clearweight tune`` measures on the device and writes the profile; with it the
exporter builds graphs for that device, on any machine, and the same bytes every time.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError

from clearweight.exporter.autodiff import COMMITTED, CostTable
from clearweight.exporter.autodiff.cost import Costs
from clearweight.exporter.errors import RecipeError

FAMILIES = ("convolution", "strided", "pooling", "mask", "prepacking")


class DeviceProfile(BaseModel):
    """The content of a profile file.

    Attributes
    ----------
    machine : what it was measured on: processor, system, runtime
    threads, batch : how it was measured
    convolution, strided, pooling, mask, prepacking : class -> kernel -> time relative to the first kernel; what is left
        out is as committed
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["clearweight device profile 1"] = "clearweight device profile 1"
    machine: Mapping[str, str | int]
    threads: int
    batch: int
    convolution: Mapping[str, Mapping[str, PositiveFloat]] = {}
    strided: Mapping[str, Mapping[str, PositiveFloat]] = {}
    pooling: Mapping[str, Mapping[str, PositiveFloat]] = {}
    mask: Mapping[str, Mapping[str, PositiveFloat]] = {}
    prepacking: Mapping[str, Mapping[str, PositiveFloat]] = {}

    def costs(self) -> CostTable:
        """Return the committed table with what was measured in its place.

        Raises
        ------
        RecipeError
            A class or a kernel that there is none of.
        """
        return CostTable(*(self._family(name) for name in FAMILIES))

    def _family(self, name: str) -> Costs:
        committed, own = getattr(COMMITTED, name), getattr(self, name)
        for kind, kernels in own.items():
            if kind not in committed:
                raise RecipeError(
                    f"Device profile: {name} has no class {kind!r}. Classes: {', '.join(committed)}."
                )
            if set(kernels) != set(committed[kind]):
                raise RecipeError(
                    f"Device profile: {name}.{kind} times {', '.join(kernels) or 'nothing'}, expected "
                    f"{', '.join(committed[kind])}."
                )
        return {**committed, **own}


def read_profile(path: Path) -> DeviceProfile:
    """Read a profile.

    Raises
    ------
    RecipeError
        No such file, no JSON, or not the content of a profile; the message names the key.
    """
    try:
        profile = DeviceProfile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecipeError(f"Device profile {str(path)!r} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise RecipeError(f"Device profile {str(path)!r}, {where}: {first['msg']}.") from error
    profile.costs()  # an unknown class or kernel is found here
    return profile
