"""The central figure: its cases exist, differ only where they say, and what is drawn is what was measured."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.pareto import CRITERIA, CURVES, cases, points_of, run, with_criterion
from benchmarks.pareto_figure import Bound, Panel, Point, figure
from benchmarks.row import MissingDataError
from benchmarks.tasks import Task, recipe_of

TASK = Task("lenet_300_100", 0, Path("nowhere"), quick=False)
CONVOLUTIONAL = replace(TASK, network="lenet_5")
BOUNDS = [Bound(0.01, 2.0, 1.5), Bound(0.1, 1.0, 0.6), Bound(0.5, 0.2, 0.1)]


def test_every_case_has_its_recipe_and_a_name_of_its_own():
    names = [case for case, _ in cases(TASK)]

    assert len(names) == len(set(names))
    assert {n.partition("/")[0] for n in names} == {
        *CURVES["lenet_300_100"],
        *(f"criterion_{c}" for c in CRITERIA),
    }


def test_criteria_are_compared_on_one_network_and_feature_maps_matched_where_there_are_some():
    methods = {case.partition("/")[0] for case, _ in cases(CONVOLUTIONAL)}

    assert "wcam" in methods
    assert not any(m.startswith("criterion_") for m in methods)


def test_wcam_differs_from_the_control_by_its_term_alone():
    own, control = (recipe_of(name, CONVOLUTIONAL) for name in ("wcam", "deep_compression_unmatched"))

    assert own.steps == control.steps
    assert own.objective.input_noise == control.objective.input_noise
    assert [t.term for t in own.objective.terms] == [t.term for t in control.objective.terms] + [
        "feature_matching"
    ]


def test_criteria_differ_by_the_pruning_criterion_alone():
    base = recipe_of("criteria", TASK)
    forms = [with_criterion(base, c) for c in CRITERIA]

    assert [f.steps[0].criterion for f in forms] == list(CRITERIA)
    assert {f.model_dump_json(exclude={"steps"}) for f in forms} == {base.model_dump_json(exclude={"steps"})}
    assert all(f.steps[1:] == base.steps[1:] for f in forms)
    assert {f.steps[0].model_dump_json(exclude={"criterion"}) for f in forms} == {
        base.steps[0].model_dump_json(exclude={"criterion"})
    }


def row(delta, cosine=0.9):
    return {
        "packed_bytes": 2e4,
        "cosine_input_x_gradient": cosine,
        "cosine_occlusion": 0.95,
        "cosine_input_x_gradient_corrupted": cosine - 0.1,
        "cosine_occlusion_corrupted": 0.9,
        "error_delta_pt": delta,
    }


def test_points_are_those_of_the_curves_and_hollow_where_accuracy_was_lost():
    figures = {"attribution/a": row(0.1), "matched/b": row(0.3), "criterion_fisher/criteria": row(0.0)}
    figures["nncodec/qp-20"] = row(0.0)

    points = points_of("lenet_300_100", figures)

    assert [(p.method, p.lossless) for p in points] == [
        ("attribution", True),
        ("matched", False),
        ("nncodec", True),
    ]


def test_a_panel_of_corrupted_images_takes_their_figures():
    (point,) = points_of("lenet_300_100", {"attribution/a": row(0.1)}, "_corrupted")

    assert (point.cosine, point.occlusion) == (pytest.approx(0.8), 0.9)


def marks_of(page):
    """Return the circles that are points of a panel; those of the legend are grey or have no edge."""
    circles = ET.fromstring(page).iter("{http://www.w3.org/2000/svg}circle")
    return [c for c in circles if c.get("stroke") not in {None, "#444"}]


def test_a_method_keeps_its_colour_over_panels():
    def panel(*methods):
        return Panel(
            "x", [Point(m, 1000.0 * n, 0.9, 0.9, lossless=True) for n, m in enumerate(methods, 1)], 0.8
        )

    page = figure([panel("ours", "other"), panel("other")], BOUNDS)
    marks = [
        c.get("stroke")
        for c in ET.fromstring(page).iter("{http://www.w3.org/2000/svg}circle")
        if c.get("stroke")
    ]

    assert marks[1] == marks[2] != marks[0]


def test_the_figure_is_xml_with_a_mark_for_every_point_at_its_place():
    points = [
        Point("ours", 10_000, 0.9, 0.95, lossless=True),
        Point("ours", 40_000, 0.97, 0.99, lossless=True),
        Point("other", 20_000, 0.6, 0.7, lossless=False),
    ]

    page = figure([Panel("a network", points, 0.8)], BOUNDS)
    marks = marks_of(page)

    assert len(marks) == 3
    ours = [c for c in marks if c.get("fill") != "white"]
    assert float(ours[0].get("cx")) < float(ours[1].get("cx"))
    assert float(ours[0].get("cy")) > float(ours[1].get("cy"))
    assert "retrained from another seed" in page
    assert re.findall(r">(ours|other)<", page) == ["ours", "other"]


def test_missing_data_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"mnist/mnist\.npz"):
        list(run(tmp_path, quick=True))
