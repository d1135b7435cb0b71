"""Attribution similarity and self-faithfulness of a compressed classifier, as pure functions."""

from clearweight.exporter.evaluate.attribution import (
    gradient,
    input_x_gradient,
    integrated_gradients,
    logits,
    occlusion,
    sensitivity_weighted,
    top_class,
)
from clearweight.exporter.evaluate.compare import (
    Comparison,
    Maps,
    compare,
    compare_maps,
    image_values,
    maps_of,
    reference_maps,
)
from clearweight.exporter.evaluate.faithfulness import deletion_auc, insertion_auc, spearman_to_own_occlusion
from clearweight.exporter.evaluate.infidelity import infidelity
from clearweight.exporter.evaluate.max_sensitivity import max_sensitivity
from clearweight.exporter.evaluate.pointing_game import pointing_game
from clearweight.exporter.evaluate.predictions import (
    PredictionComparison,
    agreement_percent,
    compare_predictions,
    error_percent,
    negative_flips_percent,
)
from clearweight.exporter.evaluate.randomization import Randomization, randomization
from clearweight.exporter.evaluate.self_check import RANDOM_MAP, Checked, self_check
from clearweight.exporter.evaluate.similarity import (
    PairedDifference,
    cosine,
    gap_closed,
    mean,
    paired_difference,
    spearman,
    ssim,
    summary,
    top10_iou,
    undefined,
)

__all__ = [
    "RANDOM_MAP",
    "Checked",
    "Comparison",
    "Maps",
    "PairedDifference",
    "PredictionComparison",
    "Randomization",
    "agreement_percent",
    "compare",
    "compare_maps",
    "compare_predictions",
    "cosine",
    "deletion_auc",
    "error_percent",
    "gap_closed",
    "gradient",
    "image_values",
    "infidelity",
    "input_x_gradient",
    "insertion_auc",
    "integrated_gradients",
    "logits",
    "maps_of",
    "max_sensitivity",
    "mean",
    "negative_flips_percent",
    "occlusion",
    "paired_difference",
    "pointing_game",
    "randomization",
    "reference_maps",
    "self_check",
    "sensitivity_weighted",
    "spearman",
    "spearman_to_own_occlusion",
    "ssim",
    "summary",
    "top10_iou",
    "top_class",
    "undefined",
]
