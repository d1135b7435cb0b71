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
from clearweight.exporter.evaluate.faithfulness import deletion_auc, spearman_to_own_occlusion
from clearweight.exporter.evaluate.predictions import (
    PredictionComparison,
    agreement_percent,
    compare_predictions,
    error_percent,
    negative_flips_percent,
)
from clearweight.exporter.evaluate.similarity import (
    PairedDifference,
    cosine,
    gap_closed,
    mean,
    paired_difference,
    spearman,
    summary,
    top10_iou,
    undefined,
)

__all__ = [
    "Comparison",
    "Maps",
    "PairedDifference",
    "PredictionComparison",
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
    "input_x_gradient",
    "integrated_gradients",
    "logits",
    "maps_of",
    "mean",
    "negative_flips_percent",
    "occlusion",
    "paired_difference",
    "reference_maps",
    "sensitivity_weighted",
    "spearman",
    "spearman_to_own_occlusion",
    "summary",
    "top10_iou",
    "top_class",
    "undefined",
]
