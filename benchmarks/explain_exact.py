"""How exact the maps are: ONNX Runtime in float32 against float64 evaluation, and completeness."""

import logging
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from benchmarks.networks import INPUT_SHAPES, network
from benchmarks.row import Row
from clearweight.exporter.explain import EXPLAINERS, NotApplicableError, build, verify
from clearweight.exporter.graph import to_onnx

# Float64 evaluation takes minutes at 224 x 224: those are checked at export by fewer inputs.
NETWORKS = ("lenet_300_100", "lenet_5", "resnet_20", "ecg_1d")


def run(data: Path | None, *, quick: bool) -> Iterable[Row]:
    """Verify every explainer on every network with seeded weights and inputs; no data is needed."""
    del data
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    for name in NETWORKS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns of its own deprecations
            model = to_onnx(network(name), torch.zeros(2, *INPUT_SHAPES[name]))
        samples = np.random.default_rng(0).random((2 if quick else 8, *INPUT_SHAPES[name]), np.float32)
        for method in EXPLAINERS:
            try:
                graph = build(model, method)
            except NotApplicableError:
                continue
            found = verify(graph, model, samples, None)
            values = {
                "cosine_to_float64": (found.cosine_to_float64, "cosine"),
                "q999_error_over_max": (found.q999_error_over_max, "ratio"),
                "completeness_error": (found.completeness_error_max, "logit"),
            }
            for metric, (value, unit) in values.items():
                yield Row(
                    "explain_exact", f"{name}/{method}", metric, value, unit if value is not None else "n/a"
                )
