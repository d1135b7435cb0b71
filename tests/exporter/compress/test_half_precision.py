"""Half precision: rounding equals numpy's, and everything stored fits float16 exactly."""

import numpy as np
import torch

from clearweight.exporter.compress import HalfPrecision, HalfPrecisionConfig, ShareWeights, ShareWeightsConfig
from clearweight.exporter.compress.constraint import value_of
from clearweight.exporter.compress.half_precision import round_half


def test_rounding_equals_numpy_within_range_and_saturates_beyond():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32) * 100

    assert np.array_equal(
        values.astype(np.float16).astype(np.float32), round_half(torch.tensor(values)).numpy()
    )
    assert round_half(torch.tensor([1e9, -1e9])).tolist() == [65504.0, -65504.0]


def test_codebooks_and_biases_become_exact_float16(bench, tiny_model):
    ShareWeights(ShareWeightsConfig(bits={"1.weight": 3})).apply(tiny_model, bench)
    step = HalfPrecision(HalfPrecisionConfig())

    step.apply(tiny_model, bench)
    step.ensure(tiny_model)

    for name in ("1.weight", "1.bias", "3.weight", "3.bias"):
        values = value_of(tiny_model, name).detach().numpy()
        assert np.array_equal(values, values.astype(np.float16).astype(np.float32))
