"""The compression benchmark's bookkeeping: units, means, missing data, and recipes that differ only where they say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.__main__ import main
from benchmarks.compression import (
    differences,
    mean_of,
    mean_values,
    resident_over_reference,
    rows_of,
    run,
    unit,
)
from benchmarks.row import MissingDataError
from benchmarks.tasks import NETWORKS
from clearweight.exporter.graph import to_onnx
from clearweight.exporter.recipe import load_recipe

FOLDER = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("packed_bytes", "bytes"),
        ("error_percent", "%"),
        ("error_delta_pt", "pt"),
        ("ratio", "1"),
        ("seconds", "s"),
    ],
)
def test_a_metrics_unit_is_what_its_name_ends_in(metric, expected):
    assert unit(metric) == expected


def test_a_figure_that_does_not_exist_is_null_without_a_unit():
    (row,) = rows_of("lenet_300_100/deep_compression/seed0", {"cosine_swa": None})

    assert (row.value, row.unit) == (None, "n/a")


def test_the_mean_is_over_seeds_and_missing_if_one_is():
    assert mean_of([{"a": 1.0, "b": None}, {"a": 3.0, "b": 2.0}]) == {"a": 2.0, "b": None}


def test_a_difference_is_paired_over_the_images_that_both_can_explain():
    matched = {"deletion_auc": np.array([0.1, 0.3, np.nan, 0.2])}
    control = {"deletion_auc": np.array([0.2, 0.2, 0.9, 0.3])}

    found = differences(matched, control)

    # -0.1, 0.1, -0.1: mean -1/30, standard error sqrt(var / 3) with n - 1 in the variance.
    assert found["deletion_auc_minus_unmatched"] == pytest.approx(-1 / 30)
    half = 1.96 * np.std([-0.1, 0.1, -0.1], ddof=1) / np.sqrt(3)
    assert found["deletion_auc_minus_unmatched_low"] == pytest.approx(-1 / 30 - half, rel=1e-3)
    assert found["deletion_auc_minus_unmatched_high"] == pytest.approx(-1 / 30 + half, rel=1e-3)


def test_an_images_value_is_its_mean_over_seeds():
    values = mean_values([{"a": np.array([1.0, 2.0])}, {"a": np.array([3.0, np.nan])}])

    np.testing.assert_array_equal(values["a"], [2.0, np.nan])


def test_missing_data_says_what_was_looked_for(tmp_path):
    with pytest.raises(MissingDataError, match=r"mnist/mnist\.npz"):
        list(run(tmp_path, quick=True))
    with pytest.raises(MissingDataError, match=r"cifar10_train50k_jpg\.npz"):
        list(run(tmp_path, quick=True, networks=["resnet_20"]))


def test_a_network_that_there_is_none_of_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"lenet_6.*lenet_300_100"):
        list(run(tmp_path, quick=True, networks=["lenet_6"]))


def test_a_benchmark_of_one_network_cannot_be_asked_for_others(capsys):
    with pytest.raises(SystemExit):
        main(["codec", "--networks", "lenet_5"])
    assert "codec cannot be asked for some networks only" in capsys.readouterr().err


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_the_unmatched_control_differs_from_the_matched_recipe_in_its_objective_alone(network):
    _, control, matched = (
        load_recipe(FOLDER / network / f"{name}.yaml") for name in NETWORKS[network].recipes
    )

    assert matched.steps == control.steps
    added = {t.term for t in matched.objective.terms} - {t.term for t in control.objective.terms}
    assert added == {"feature_reconstruction" if network == "resnet_20" else "input_matching"}
    assert control.objective.input_noise == 0.0


def test_a_wide_network_keeps_more_in_memory_than_a_narrow_one():
    wide, narrow = (
        to_onnx(
            nn.Sequential(nn.Flatten(), nn.Linear(784, n), nn.Linear(n, 10)).eval(), torch.zeros(2, 1, 28, 28)
        )
        for n in (2000, 20)
    )

    assert 0.0 < resident_over_reference(narrow, wide) < 0.6
