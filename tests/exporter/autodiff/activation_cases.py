"""Cases of activation functions."""

import numpy as np
import torch
from torch.nn import functional

from tests.exporter.autodiff.case import ANY, Case, away_from, away_from_zero, few_levels, normal

# Erf, Gelu and HardSwish are single precision inside the reference evaluator: a wide step and what it is good for.
ROUGH = {"step": 1e-3, "tol": 1e-4}


def prelu(x, a):
    return torch.where(x > 0, x, a * x)


def thresholded(alpha):
    return lambda x: torch.where(x > alpha, x, torch.zeros(()))


def hard_sigmoid(alpha, beta):
    return lambda x: (alpha * x + beta).clamp(0, 1)


ACTIVATION_CASES = [
    Case("PRelu", (ANY, (3, 1)), sampler=away_from_zero, oracle=prelu),
    Case("PRelu", (ANY, (4,)), sampler=away_from_zero, oracle=prelu),
    Case("PRelu", (ANY,), sampler=away_from_zero, weights={1: (3, 1)}, oracle=prelu),
    Case("ThresholdedRelu", (ANY,), sampler=away_from(1.0), oracle=thresholded(1.0)),
    Case("Shrink", (ANY,), sampler=away_from(0.5, -0.5), oracle=lambda x: functional.hardshrink(x, 0.5)),
    Case(
        "Shrink",
        (ANY,),
        {"lambd": 0.3, "bias": 0.3},
        sampler=away_from(0.3, -0.3),
        oracle=lambda x: functional.softshrink(x, 0.3),
    ),
    Case("ThresholdedRelu", (ANY,), {"alpha": -0.5}, away_from(-0.5), oracle=thresholded(-0.5)),
    Case("HardSigmoid", (ANY,), sampler=away_from(-2.5, 2.5), oracle=hard_sigmoid(0.2, 0.5)),
    Case(
        "HardSigmoid",
        (ANY,),
        {"alpha": 1 / 6, "beta": 0.5},
        away_from(-3.0, 3.0),
        oracle=functional.hardsigmoid,
        tol=1e-6,
    ),
    Case("HardSwish", (ANY,), sampler=away_from(-3.0, 3.0), oracle=functional.hardswish, **ROUGH),
    Case("Elu", (ANY,), sampler=away_from_zero, oracle=functional.elu),
    Case("Elu", (ANY,), {"alpha": 0.3}, away_from_zero, oracle=lambda x: functional.elu(x, 0.3)),
    Case("Elu", (ANY,), {"alpha": 1.7}, away_from_zero, oracle=lambda x: functional.elu(x, 1.7)),
    Case("Selu", (ANY,), sampler=away_from_zero, oracle=torch.selu),
    Case("Selu", (ANY,), {"alpha": 1.2, "gamma": 0.9}, away_from_zero),
    Case("Celu", (ANY,), sampler=away_from_zero, oracle=torch.celu),
    Case("Celu", (ANY,), {"alpha": 0.4}, away_from_zero, oracle=lambda x: torch.celu(x, 0.4)),
    Case("Softplus", (ANY,), oracle=functional.softplus),
    Case("Softsign", (ANY,), oracle=functional.softsign),
    Case("Mish", (ANY,), oracle=functional.mish),
    Case("Swish", (ANY,), oracle=functional.silu, opset=24),
    Case("Swish", (ANY,), {"alpha": 1.7}, oracle=lambda x: x * (1.7 * x).sigmoid(), opset=24),
    Case("Gelu", (ANY,), oracle=functional.gelu, opset=20, **ROUGH),
    Case(
        "Gelu",
        (ANY,),
        {"approximate": "tanh"},
        oracle=lambda x: functional.gelu(x, approximate="tanh"),
        opset=20,
        **ROUGH,
    ),
    Case("LogSoftmax", (ANY,), oracle=lambda x: x.log_softmax(-1)),
    Case("LogSoftmax", (ANY,), {"axis": 1}, oracle=lambda x: x.log_softmax(1)),
]


def edges(*points):
    """Exactly the points where the derivative jumps, and values beside them."""
    return lambda rng, shape: rng.choice([*points, 0.0, 0.5, -0.5], size=shape)


def far_out(rng, shape):
    return 60 * few_levels(rng, shape)


KINKED = ((2, 30),)
# Saturated values too: nothing may overflow where torch's formula does not.
ACTIVATION_KINKS = [
    Case("PRelu", (*KINKED, (30,)), sampler=few_levels, oracle=functional.prelu),
    Case("Shrink", KINKED, sampler=edges(0.5), oracle=lambda x: functional.hardshrink(x, 0.5)),
    Case("ThresholdedRelu", KINKED, sampler=edges(1.0), oracle=lambda x: functional.threshold(x, 1.0, 0.0)),
    Case(
        "HardSigmoid",
        KINKED,
        {"alpha": 0.25, "beta": 0.5},
        edges(-2.0, 2.0),
        oracle=lambda x: functional.hardsigmoid(x * 1.5),
    ),
    Case("HardSwish", KINKED, sampler=edges(-3.0, 3.0, -4.0, 4.0), oracle=functional.hardswish),
    Case("Elu", KINKED, sampler=few_levels, oracle=functional.elu),
    Case("Elu", KINKED, {"alpha": 0.3}, few_levels, oracle=lambda x: functional.elu(x, 0.3)),
    Case("Selu", KINKED, sampler=few_levels, oracle=torch.selu),
    Case("Celu", KINKED, {"alpha": 0.4}, few_levels, oracle=lambda x: torch.celu(x, 0.4)),
    *(
        Case(op, KINKED, sampler=far_out, oracle=oracle, opset=24)
        for op, oracle in (
            ("Softplus", functional.softplus),
            ("Softsign", functional.softsign),
            ("Mish", functional.mish),
            ("Swish", functional.silu),
            ("Gelu", functional.gelu),
            ("Elu", functional.elu),
            ("LogSoftmax", lambda x: x.log_softmax(-1)),
        )
    ),
    Case(
        "Gelu",
        KINKED,
        {"approximate": "tanh"},
        far_out,
        opset=20,
        oracle=lambda x: functional.gelu(x, approximate="tanh"),
    ),
    Case("Abs", KINKED, sampler=few_levels, oracle=torch.abs),
    Case("Erf", KINKED, sampler=far_out, oracle=torch.erf),
    Case("Pow", KINKED, sampler=few_levels, settings={1: np.float64(2.0)}, oracle=lambda x: x**2),
    Case(
        "Where",
        (*KINKED, *KINKED),
        settings={0: np.arange(30) % 2 == 0},
        sampler=normal,
        oracle=lambda a, b: torch.where(torch.arange(30) % 2 == 0, a, b),
    ),
]
