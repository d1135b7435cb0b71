"""Compression methods: each puts a constraint on tensors and fine-tunes under the one objective."""

from clearweight.exporter.compress.constraint import Constraint, PruneMask, SharedCodebook, coded_tensors
from clearweight.exporter.compress.entropy_constrained import EntropyConstrained, EntropyConstrainedConfig
from clearweight.exporter.compress.half_precision import HalfPrecision, HalfPrecisionConfig
from clearweight.exporter.compress.prune import Prune, PruneConfig
from clearweight.exporter.compress.share_weights import ShareWeights, ShareWeightsConfig
from clearweight.exporter.compress.step import Step, Workbench

# Every method a recipe may name.
METHODS = {
    "prune": Prune,
    "share_weights": ShareWeights,
    "entropy_constrained": EntropyConstrained,
    "half_precision": HalfPrecision,
}

# Every constraint that a checkpoint may hold.
CONSTRAINTS: dict[str, type[Constraint]] = {c.kind: c for c in (PruneMask, SharedCodebook)}

__all__ = [
    "CONSTRAINTS",
    "METHODS",
    "EntropyConstrained",
    "EntropyConstrainedConfig",
    "HalfPrecision",
    "HalfPrecisionConfig",
    "Prune",
    "PruneConfig",
    "ShareWeights",
    "ShareWeightsConfig",
    "Step",
    "Workbench",
    "coded_tensors",
]
