"""The section on single units."""

import numpy as np

from clearweight.exporter.explain import Unit
from clearweight.exporter.explain.stimulators import Stimulator
from clearweight.exporter.report import render_report
from clearweight.exporter.report.tile import image_tile
from clearweight.exporter.report.unit import units


def stimulator(index, activation, shape, crop):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Stimulator(index, activation, (0,) * len(crop), crop, values, -values)


def test_each_unit_is_shown_with_its_inputs_cut_to_what_it_sees(data, replaced):
    window = (slice(1, 4), slice(2, 6))
    one = stimulator(17, 3.456, (1, 8, 8), window)
    shown = units(replaced(data, units={Unit("conv2", 3): [one], Unit("fc", 0): [one, one]}))

    assert [(unit.layer, unit.channel, len(unit.excited)) for unit in shown] == [
        ("conv2", 3, 1),
        ("fc", 0, 2),
    ]
    assert shown[0].excited[0].image == image_tile(one.input[:, 1:4, 2:6])
    assert shown[0].excited[0].activation == "3.46"
    page = render_report(replaced(data, units={Unit("conv2", 3): [one]}))
    assert "What excites single units" in page
    assert "calibration input 17" in page


def test_series_and_flat_inputs_are_strips(data, replaced):
    for shape, crop in (((2, 30), (slice(4, 9),)), ((30,), (slice(0, 30),))):
        (unit,) = units(replaced(data, units={Unit("fc", 1): [stimulator(0, 1.0, shape, crop)]}))
        assert unit.excited[0].map.startswith("data:image/png;base64,")


def test_no_unit_no_section(data):
    assert units(data) == []
    assert "single units" not in render_report(data)
