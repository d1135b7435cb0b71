"""What is said, apart from how it looks."""

import numpy as np

from clearweight.exporter.report.section import (
    calibrated,
    examples,
    faithfulness,
    key_figures,
    likenesses,
    verdict,
)


def test_packed_and_device_bytes_are_never_mixed(data):
    values = {figure.name: (figure.value, figure.note) for figure in key_figures(data)}

    assert values["Packed weights"][0].startswith("541")
    assert values["On the device"][0] == "2\u202f600\u202fB"
    assert values["Packed weights"][1].startswith("9.6×")
    assert values["On the device"][1].startswith("2.0×")


def test_only_measured_explainers_are_listed(data):
    assert [row.name for row in likenesses(data)] == [
        "Input × gradient",
        "Gradient",
        "Integrated gradients",
        "Occlusion",
    ]


def test_examples_carry_label_cosine_and_four_pictures(data):
    shown = examples(data)

    assert [example.label for example in shown] == ["cat", "<script>alert(1)</script>", "class 5"]
    assert all(0.8 < float(example.cosine) < 1.0 for example in shown)
    assert all(len({one.image, one.reference, one.compressed, one.difference}) == 4 for one in shown)


def test_equal_maps_have_a_white_difference(data, replaced):
    same = examples(replaced(data, maps_compressed=data.maps_reference * 5))

    assert len({example.difference for example in same}) == 1
    assert all(example.reference == example.compressed for example in same)
    assert {example.cosine for example in same} == {"1.000"}


def test_no_fidelity_gives_no_verdict():
    assert verdict(None) is None


def test_the_similarity_that_decides_comes_first_and_alone_has_a_floor(manifest):
    rows = calibrated(manifest.fidelity)

    assert [(row.name, row.floor) for row in rows] == [("cosine", 0.8), ("pooled top tenth in common", None)]


def test_faithfulness_falls_back_to_the_manifest(data, replaced):
    measured = [(row.reference, row.compressed) for row in faithfulness(data)]
    recorded = [(row.reference, row.compressed) for row in faithfulness(replaced(data, comparison=None))]

    assert measured == [(0.204, 0.215), (-0.123, 0.612)]
    assert recorded == [(0.2, 0.21), (0.5, 0.6)]


def test_channels_of_maps_are_summed(data, replaced):
    split = replaced(
        data,
        maps_reference=np.concatenate([data.maps_reference * 0.25, data.maps_reference * 0.75], axis=1),
        maps_compressed=np.concatenate([data.maps_compressed * 3, -2 * data.maps_compressed], axis=1),
    )

    assert examples(split) == examples(data)
