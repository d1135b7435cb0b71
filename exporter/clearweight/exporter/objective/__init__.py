"""What fine-tuning preserves: the task, the reference's answers, and the reference's attributions."""

from clearweight.exporter.objective.attribution_matching import (
    FeatureMatching,
    FeatureMatchingConfig,
    InputMatching,
    InputMatchingConfig,
)
from clearweight.exporter.objective.distillation import Distillation, DistillationConfig
from clearweight.exporter.objective.feature_reconstruction import (
    FeatureReconstruction,
    FeatureReconstructionConfig,
)
from clearweight.exporter.objective.objective import Objective, Term
from clearweight.exporter.objective.task import Task, TaskConfig
from clearweight.exporter.objective.term import Batch, Needs, View

# Every term a recipe may name.
TERMS = {
    "task": Task,
    "distillation": Distillation,
    "feature_matching": FeatureMatching,
    "feature_reconstruction": FeatureReconstruction,
    "input_matching": InputMatching,
}

__all__ = [
    "TERMS",
    "Batch",
    "Distillation",
    "DistillationConfig",
    "FeatureMatching",
    "FeatureMatchingConfig",
    "FeatureReconstruction",
    "FeatureReconstructionConfig",
    "InputMatching",
    "InputMatchingConfig",
    "Needs",
    "Objective",
    "Task",
    "TaskConfig",
    "Term",
    "View",
]
