"""The format exporter and service share: manifest, packed weights, canaries; SPEC.md is its authority."""

from clearweight.artifact import errors, preprocessing
from clearweight.artifact.artifact import Artifact
from clearweight.artifact.canary import Canary, canary_from_bytes
from clearweight.artifact.choice import Coder
from clearweight.artifact.coded import CodedTensor
from clearweight.artifact.errors import ArtifactError
from clearweight.artifact.explain_inputs import EXPLAIN_INPUTS, explain_inputs
from clearweight.artifact.manifest import (
    OTHER,
    QUANTILE_LEVELS,
    Canaries,
    ClassNull,
    Drift,
    Explainer,
    Fidelity,
    FileEntry,
    IntegrityLimit,
    Ledger,
    LedgerRow,
    Manifest,
    NullDistribution,
    Preprocessing,
    Quality,
    Stage,
    Summary,
    TensorSpec,
    Verification,
)
from clearweight.artifact.manifest_bytes import manifest_from_bytes, manifest_to_bytes
from clearweight.artifact.record import TensorRecord
from clearweight.artifact.repository import find_artifacts
from clearweight.artifact.score import (
    SCORES,
    channel_sum,
    cosine_distance,
    pool,
    pooled_cosine_distance,
    pooled_spearman_distance,
    pooled_top10_iou_distance,
)
from clearweight.artifact.tile import TileCodebookTensor, TiledTensor, UnifiedTensor
from clearweight.artifact.weights import WeightsReader, WeightsReport, write_weights
from clearweight.artifact.writer import write_artifact, write_folder

__all__ = [
    "EXPLAIN_INPUTS",
    "OTHER",
    "QUANTILE_LEVELS",
    "SCORES",
    "Artifact",
    "ArtifactError",
    "Canaries",
    "Canary",
    "ClassNull",
    "CodedTensor",
    "Coder",
    "Drift",
    "Explainer",
    "Fidelity",
    "FileEntry",
    "IntegrityLimit",
    "Ledger",
    "LedgerRow",
    "Manifest",
    "NullDistribution",
    "Preprocessing",
    "Quality",
    "Stage",
    "Summary",
    "TensorRecord",
    "TensorSpec",
    "TileCodebookTensor",
    "TiledTensor",
    "UnifiedTensor",
    "Verification",
    "WeightsReader",
    "WeightsReport",
    "canary_from_bytes",
    "channel_sum",
    "cosine_distance",
    "errors",
    "explain_inputs",
    "find_artifacts",
    "manifest_from_bytes",
    "manifest_to_bytes",
    "pool",
    "pooled_cosine_distance",
    "pooled_spearman_distance",
    "pooled_top10_iou_distance",
    "preprocessing",
    "write_artifact",
    "write_folder",
    "write_weights",
]
