"""Cases of arithmetic on elements, of extremes with their ties, and of Einsum."""

import numpy as np
import torch

from tests.exporter.autodiff.activation_cases import ROUGH
from tests.exporter.autodiff.case import ANY, Case, away_from, away_from_zero, distinct, few_levels, positive

CONDITION = np.array([[True, False, True, False], [False, False, True, True], [True, True, True, False]])


def small(rng, shape):
    return rng.uniform(-0.8, 0.8, size=shape)


def above_one(rng, shape):
    return rng.uniform(1.2, 3.0, size=shape)


def power(n, sampler, **given):
    return Case("Pow", (ANY,), sampler=sampler, settings={1: np.float64(n)}, oracle=lambda x: x**n, **given)


ARITHMETIC_CASES = [
    *(
        Case(op, (ANY,), sampler=sampler, oracle=oracle)
        for op, oracle, sampler in (
            ("Sqrt", torch.sqrt, positive),
            ("Reciprocal", torch.reciprocal, away_from_zero),
            ("Exp", torch.exp, positive),
            ("Log", torch.log, positive),
            ("Abs", torch.abs, away_from_zero),
            ("Neg", torch.neg, positive),
            ("Sin", torch.sin, positive),
            ("Cos", torch.cos, positive),
            ("Tan", torch.tan, small),
            ("Asin", torch.asin, small),
            ("Acos", torch.acos, small),
            ("Atan", torch.atan, positive),
            ("Sinh", torch.sinh, positive),
            ("Cosh", torch.cosh, positive),
            ("Asinh", torch.asinh, positive),
            ("Acosh", torch.acosh, above_one),
            ("Atanh", torch.atanh, small),
        )
    ),
    Case("Erf", (ANY,), oracle=torch.erf, **ROUGH),
    *(power(n, away_from_zero) for n in (1.0, 2.0, 3.0, -1.0, 4.0)),
    power(0.5, positive),
    power(-1.5, positive),
    Case("Pow", (ANY,), settings={0: np.float64(2.0)}, oracle=lambda n: 2.0**n),
    Case("Pow", (ANY,), sampler=positive, weights={1: (4,)}, oracle=lambda x, n: x**n),
    Case(
        "Mod",
        (ANY,),
        {"fmod": 1},
        sampler=away_from(0.0, 0.75, -0.75, 1.5, -1.5, 2.25, -2.25, 3.0, -3.0),
        settings={1: np.float64(0.75)},
        oracle=lambda x: torch.fmod(x, 0.75),
    ),
    Case("Mod", (ANY, ANY), {"fmod": 1}, sampler=positive, oracle=torch.fmod, free=((0, 0), (1, 0))),
    Case("Sum", (ANY, (4,), (3, 1)), oracle=lambda a, b, c: a + b + c),
    Case("Mean", (ANY, (4,), (3, 1)), oracle=lambda a, b, c: (a + b + c) / 3),
    *(
        Case(op, shapes, sampler=distinct_apart, oracle=oracle)
        for op, oracle in (("Max", torch.maximum), ("Min", torch.minimum))
        for shapes, distinct_apart in (((ANY, (4,)), away_from_zero), ((ANY, ANY), away_from_zero))
    ),
    Case("Max", (ANY, ANY, (3, 1)), oracle=lambda a, b, c: torch.maximum(torch.maximum(a, b), c)),
    Case(
        "Max",
        (ANY,),
        sampler=distinct,
        settings={1: np.float64(-0.905)},
        oracle=lambda x: x.clamp(min=-0.905),
    ),
    Case("Min", (ANY,), oracle=torch.clone),
    Case(
        "Where",
        (ANY, ANY),
        settings={0: CONDITION},
        oracle=lambda a, b: torch.where(torch.tensor(CONDITION), a, b),
        free=((0, 0), (1, 0)),
    ),
    Case(
        "Where",
        (ANY, (3, 1)),
        settings={0: CONDITION},
        oracle=lambda a, b: torch.where(torch.tensor(CONDITION), a, b),
    ),
    Case("CastLike", (ANY,), settings={1: np.float64(0.0)}, oracle=torch.clone),
]


def einsum(equation, *shapes, free=((0, 0),), **given):
    return Case(
        "Einsum",
        shapes,
        {"equation": equation},
        oracle=lambda *x: torch.einsum(equation, *x),
        free=free,
        **given,
    )


BATCHES = ((0, 0), (1, 0))
EINSUM = [
    einsum("ij,jk->ik", (2, 3), (3, 4)),
    einsum("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4), free=BATCHES),
    einsum("bhqk,bkhd->bqhd", (2, 2, 3, 5), (2, 5, 2, 4), free=BATCHES),
    einsum("nchw,nchw->nc", (2, 3, 2, 4), (2, 3, 2, 4), free=BATCHES),
    einsum("ij, jk", (2, 3), (3, 4)),  # no arrow: the indices that occur once
    einsum("ijk->ki", (2, 3, 4)),  # an index summed alone
    einsum("i,j->ij", (2,), (3,)),
    einsum("ij,jk,k->i", (2, 3), (3, 4), (4,)),
]

# Ties among inputs share the gradient equally.
TIES = [
    *(
        Case(op, ((2, 30), (2, 30)), sampler=few_levels, oracle=oracle, free=BATCHES)
        for op, oracle in (("Max", torch.maximum), ("Min", torch.minimum))
    ),
    *(
        Case(
            op,
            ((2, 3, 30),),
            {"keepdims": keepdims},
            few_levels,
            settings={1: np.array([-1, 1])},
            oracle=lambda x, function=function, keepdims=keepdims: function(x, (-1, 1), bool(keepdims)),
        )
        for op, function in (("ReduceMax", torch.amax), ("ReduceMin", torch.amin))
        for keepdims in (0, 1)
    ),
    Case("GlobalMaxPool", ((2, 3, 4, 5),), sampler=few_levels, oracle=lambda x: x.amax((2, 3), keepdim=True)),
    Case(
        "ReduceL2",
        ((2, 3),),
        sampler=lambda _, shape: np.zeros(shape),
        settings={1: np.array([1])},
        oracle=lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True),
    ),
    Case(
        "ReduceL1",
        ((2, 9),),
        sampler=few_levels,
        settings={1: np.array([1])},
        oracle=lambda x: torch.linalg.vector_norm(x, 1, dim=1, keepdim=True),
    ),
]
ARITHMETIC_CASES += EINSUM
