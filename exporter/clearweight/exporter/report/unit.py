"""The page's section on single units: what excites them, and what of it they answer to."""

from dataclasses import dataclass

from clearweight.artifact.score import channel_sum
from clearweight.exporter.report import quantity
from clearweight.exporter.report.data import ReportData
from clearweight.exporter.report.tile import image_tile, map_tile, unit_scale


@dataclass(frozen=True)
class Excited:
    """One input, cut to what the unit's strongest place sees of it, and the unit's map of the same part."""

    index: int
    activation: str
    image: str
    map: str


@dataclass(frozen=True)
class UnitShown:
    """One unit with its strongest inputs."""

    layer: str
    channel: int
    excited: tuple[Excited, ...]


def units(data: ReportData) -> list[UnitShown]:
    """Draw every unit that was asked about; none if none was."""
    shown = []
    for unit, found in data.units.items():
        excited = []
        for one in found:
            crop = (slice(None), *one.crop) if one.input.ndim > 1 else one.crop
            part = one.map[crop]
            flat = channel_sum(part[None]).reshape(part.shape[1:] if part.ndim > 1 else part.shape)
            excited.append(
                Excited(
                    index=one.index,
                    activation=quantity.decimal(one.activation, 2),
                    image=image_tile(one.input[crop]),
                    map=map_tile(unit_scale(flat)),
                )
            )
        shown.append(UnitShown(unit.layer, unit.channel, tuple(excited)))
    return shown
