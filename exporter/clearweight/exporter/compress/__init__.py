"""Compression methods: each puts a constraint on tensors and fine-tunes under the one objective."""

from clearweight.exporter.compress.closed_form_refit import ClosedFormRefit, ClosedFormRefitConfig
from clearweight.exporter.compress.constraint import Constraint, PruneMask, SharedCodebook, coded_tensors
from clearweight.exporter.compress.dense_sparse_dense import DenseSparseDense, DenseSparseDenseConfig
from clearweight.exporter.compress.dynamical_isometry import DynamicalIsometry, DynamicalIsometryConfig
from clearweight.exporter.compress.entropy_constrained import EntropyConstrained, EntropyConstrainedConfig
from clearweight.exporter.compress.half_precision import HalfPrecision, HalfPrecisionConfig
from clearweight.exporter.compress.kernel_quantization import (
    KernelCodebook,
    KernelQuantization,
    KernelQuantizationConfig,
)
from clearweight.exporter.compress.low_rank import (
    LowRank,
    LowRankConfig,
    LowRankFactorization,
    Separable,
)
from clearweight.exporter.compress.mpd import BlockMask, Mpd, MpdConfig
from clearweight.exporter.compress.prune import Prune, PruneConfig
from clearweight.exporter.compress.prune_filters import FilterMask, PruneFilters, PruneFiltersConfig
from clearweight.exporter.compress.share_weights import ShareWeights, ShareWeightsConfig
from clearweight.exporter.compress.step import Step, Workbench
from clearweight.exporter.compress.unify_weights import MicroStructure, UnifyWeights, UnifyWeightsConfig

# Every method a recipe may name.
METHODS = {
    "dense_sparse_dense": DenseSparseDense,
    "prune": Prune,
    "closed_form_refit": ClosedFormRefit,
    "dynamical_isometry": DynamicalIsometry,
    "prune_filters": PruneFilters,
    "mpd": Mpd,
    "low_rank": LowRankFactorization,
    "kernel_quantization": KernelQuantization,
    "unify_weights": UnifyWeights,
    "share_weights": ShareWeights,
    "entropy_constrained": EntropyConstrained,
    "half_precision": HalfPrecision,
}

# Every constraint that a checkpoint may hold.
CONSTRAINTS: dict[str, type[Constraint]] = {
    c.kind: c
    for c in (
        PruneMask,
        FilterMask,
        BlockMask,
        LowRank,
        Separable,
        KernelCodebook,
        MicroStructure,
        SharedCodebook,
    )
}

__all__ = [
    "CONSTRAINTS",
    "METHODS",
    "ClosedFormRefit",
    "ClosedFormRefitConfig",
    "DenseSparseDense",
    "DenseSparseDenseConfig",
    "DynamicalIsometry",
    "DynamicalIsometryConfig",
    "EntropyConstrained",
    "EntropyConstrainedConfig",
    "HalfPrecision",
    "HalfPrecisionConfig",
    "KernelQuantization",
    "KernelQuantizationConfig",
    "LowRankConfig",
    "LowRankFactorization",
    "Mpd",
    "MpdConfig",
    "Prune",
    "PruneConfig",
    "PruneFilters",
    "PruneFiltersConfig",
    "ShareWeights",
    "ShareWeightsConfig",
    "Step",
    "UnifyWeights",
    "UnifyWeightsConfig",
    "Workbench",
    "coded_tensors",
]
