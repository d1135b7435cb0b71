"""The section on each explainer against its own model."""

import re

import pytest

from clearweight.exporter.evaluate import Checked, Randomization
from clearweight.exporter.report import render_report
from clearweight.exporter.report.self_check import checked_images, checked_rows, randomized


def fallen(*values):
    layers = ("", *(f"layer{k}" for k in range(1, len(values))))
    return Randomization(layers, values, tuple(values))


@pytest.fixture
def checked(data, replaced):
    def checks(shift):
        return {
            "input_x_gradient": Checked(0.21 + shift, 0.71, 0.31, 0.11, fallen(1.0, 0.5 + shift, -0.25)),
            "occlusion": Checked(0.19 + shift, 0.73, None),
            "random_map": Checked(0.41 + shift, 0.44, 0.97),
        }

    return replaced(data, reference_checks=checks(0.0), own_checks=checks(0.005))


def test_rows_stand_side_by_side_and_the_random_map_is_marked(checked):
    rows = checked_rows(checked)

    assert [row.name for row in rows] == ["Input × gradient", "Occlusion", "Random map"]
    assert [row.chance for row in rows] == [False, False, True]
    assert rows[0].deletion == (0.21, 0.215)
    assert rows[1].infidelity == (None, None)
    assert checked_images(checked) == 16


def test_curves_run_from_the_trained_model_to_random_weights(checked):
    found = randomized(checked)

    assert [(curve.name, curve.reference) for curve in found.curves] == [
        ("Input × gradient", True),
        ("Input × gradient", False),
    ]
    assert found.stages == (("trained", 0.0), ("layer1", 0.5), ("layer2", 1.0))
    assert found.zero == pytest.approx(0.2)  # the scale runs from -0.25 to 1
    points = found.curves[0].points
    assert points[0] == (0.0, 1.0)
    assert points[1] == (0.5, pytest.approx(0.75 / 1.25))
    assert points[2] == (1.0, 0.0)
    assert found.curves[0].last == -0.25


def test_a_stage_without_a_value_leaves_a_gap(data, replaced):
    checks = {"gradient": Checked(0.1, 0.2, 0.3, 0.4, fallen(1.0, None, 0.1))}
    found = randomized(replaced(data, reference_checks={}, own_checks=checks))

    assert [x for x, _ in found.curves[0].points] == [0.0, 1.0]


def test_the_page_shows_them(checked):
    page = render_report(checked)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))

    for expected in ("tell the truth", "Random map", "0.410 0.415", "0.970", "n/a", "layer2", "compr. −0.25"):
        assert expected in text, expected
    assert page.count("<polyline") == 2
    assert page.count('<tr class="chance">') == 1


def test_nothing_measured_shows_nothing(data):
    page = render_report(data)

    assert checked_rows(data) == []
    assert randomized(data) is None
    assert "tell the truth" not in page
    assert "<polyline" not in page
