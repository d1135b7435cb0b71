"""A complete report of a made-up model with numbers that can be recognised."""

import dataclasses

import numpy as np
import pytest

from clearweight.artifact import manifest as records
from clearweight.exporter.evaluate import Comparison
from clearweight.exporter.report import ReportData

STAGES = ("float32", "pruned", "shared", "packed")


def row(name, shape, nonzero, sizes):
    parameters = int(np.prod(shape))
    stages = tuple(
        records.Stage(stage, 8 * size / parameters, size) for stage, size in zip(STAGES, sizes, strict=True)
    )
    return records.LedgerRow(name, shape, parameters, nonzero, "sparse codebook", "2 0 1", sizes[-1], stages)


def null():
    quantiles = tuple(np.linspace(0.0, 0.2, 32).tolist())
    return records.NullDistribution(0.1, 0.03, quantiles, (0.25, 0.1, 0.0, 0.0, 0.0), 3e-7, 200, 2)


@pytest.fixture
def manifest():
    rows = (
        row("fc1.weight", (20, 64), 256, (5120, 1600, 700, 450)),
        row("fc1.bias", (20,), 20, (80, 90, 85, 61)),
    )
    similarity = {
        "pooled_top10_iou": records.Summary(0.71, 0.51, 0.72, 0.88),
        "cosine": records.Summary(0.913, 0.801, 0.922, 0.973),
    }
    return records.Manifest(
        name="tiny",
        version="7",
        variant="compressed",
        inputs=(records.TensorSpec("input", "FP32", (-1, 1, 8, 8)),),
        outputs=(records.TensorSpec("logits", "FP32", (-1, 3)),),
        labels=("cat", "dog", "<script>alert(1)</script>"),
        preprocessing=records.Preprocessing(),
        ledger=records.Ledger(5200, 541, 30, rows),
        reference_quality=records.Quality(0.9812, 0.2, 0.5),
        compressed_quality=records.Quality(0.9796, 0.21, 0.6),
        explainers={},
        default_explainer="input_x_gradient",
        fidelity=records.Fidelity(
            "input_x_gradient", 200, 2, similarity, 0.991, 0.0016, 0.88, 0.002, 0.8, 0.565, passed=True
        ),
        integrity=records.IntegrityLimit(1e-4, 0.9999, 1e-3),
        drift=records.Drift("input_x_gradient", {"pooled_cosine": null()}),
        canaries=records.Canaries("calibration", 16),
        splits={"calibration": "sha256:c0ffee", "fitting": "sha256:decade"},
        environment={"torch": "2.13.0"},
    )


@pytest.fixture
def data(manifest):
    rng = np.random.default_rng(61)
    maps = rng.normal(size=(3, 1, 8, 8))
    return ReportData(
        manifest=manifest,
        inputs=rng.uniform(size=(3, 1, 8, 8)),
        labels=np.array([0, 2, 5]),
        maps_reference=maps,
        maps_compressed=maps + 0.3 * rng.normal(size=maps.shape),
        device_bytes=2600,
        comparison=Comparison(
            cosine_input_x_gradient=0.913,
            cosine_gradient=0.842,
            cosine_occlusion=0.951,
            cosine_integrated_gradients=0.907,
            cosine_swa=None,
            spearman_input_x_gradient=0.777,
            top10_iou_input_x_gradient=0.666,
            deletion_auc=0.215,
            reference_deletion_auc=0.204,
            spearman_to_own_occlusion=0.612,
            reference_spearman_to_own_occlusion=-0.123,
            images=1000,
            undefined=4,
        ),
        null_scores=np.append(rng.beta(1.2, 18, 200), [np.nan, np.nan]),
        matched=frozenset({"input_x_gradient"}),
    )


@pytest.fixture
def replaced():
    return dataclasses.replace
