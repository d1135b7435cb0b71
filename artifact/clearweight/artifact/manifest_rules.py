"""Which manifests make sense: the rules of SPEC.md section 4.3, one function per part."""

import math
import re

from clearweight.artifact.errors import FieldValueError, UnsupportedVersionError
from clearweight.artifact.explain_inputs import EXPLAIN_INPUTS
from clearweight.artifact.file_name import GRAPH_FILES, check_file_name, check_model_name, check_version
from clearweight.artifact.manifest import (
    FORMAT,
    FORMAT_VERSION,
    LAGS,
    OTHER,
    QUANTILE_LEVELS,
    Ledger,
    Manifest,
    NullDistribution,
)
from clearweight.artifact.preprocessing import RESIZE

VARIANTS = ("compressed", "reference")
CANARY_SOURCES = ("calibration", "file", "synthetic")
RESOLUTIONS = ("input", "feature")
SIGNS = ("signed", "positive")
FROZEN_MAP = ("passed", "constant_gradient")
DATATYPES = ("BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
RAW_DATATYPES = ("UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
SCORE_NAMES = ("cosine", "pooled_cosine", "pooled_top10_iou", "pooled_spearman")
DRIFT_NAMES = (*SCORE_NAMES, "disagreement")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def check_manifest(manifest: Manifest) -> None:
    """Refuse a manifest whose values are impossible or contradict each other.

    Raises
    ------
    UnsupportedVersionError
        Another format, or a format version this reader does not know.
    FileNameError
        A model, version or file name that is not of the allowed form.
    FieldValueError
        Any other rule.
    """
    if (manifest.format, manifest.format_version) != (FORMAT, FORMAT_VERSION):
        raise UnsupportedVersionError(
            f"manifest.json is {manifest.format!r} version {manifest.format_version}, "
            f"this reader knows {FORMAT!r} version {FORMAT_VERSION}."
        )
    check_model_name(manifest.name)
    check_version(manifest.version)
    _one_of(manifest.variant, VARIANTS, "variant")
    _check_tensors(manifest)
    _check_files(manifest)
    check_ledger(manifest.ledger)
    _check_explainers(manifest)
    _check_quality(manifest)
    _one_of(manifest.canaries.source, CANARY_SOURCES, "canaries.source")
    _demand(manifest.canaries.count >= 0, f"canaries.count is {manifest.canaries.count}, expected at least 0")


def check_ledger(ledger: Ledger) -> None:
    """Refuse a ledger that does not add up.

    Raises
    ------
    FieldValueError
        Naming the row or the sum.
    """
    for row in ledger.rows:
        elements = 1
        for length in row.shape:
            _demand(length >= 0, f"ledger row {row.name!r} has shape {row.shape}")
            elements *= length
        _demand(row.parameters >= 0, f"ledger row {row.name!r} states {row.parameters} parameters")
        _demand(
            0 <= row.nonzero <= elements,
            f"ledger row {row.name!r} states {row.nonzero} nonzero of {elements}",
        )
        _demand(row.bytes >= 0, f"ledger row {row.name!r} states {row.bytes} bytes")
        for stage in row.stages:
            _demand(
                stage.bytes >= 0 and stage.bits_per_weight >= 0,
                f"ledger row {row.name!r}, stage {stage.name!r}: {stage}",
            )
    _demand(len({row.name for row in ledger.rows}) == len(ledger.rows), "the ledger names a tensor twice")
    total = sum(row.bytes for row in ledger.rows) + ledger.overhead_bytes
    _demand(
        ledger.overhead_bytes >= 0 and total == ledger.packed_bytes,
        f"the ledger's rows and overhead add up to {total} bytes, packed_bytes is {ledger.packed_bytes}",
    )
    reference = 4 * sum(row.parameters for row in ledger.rows)
    _demand(
        ledger.reference_bytes == reference,
        f"reference_bytes is {ledger.reference_bytes}, four bytes per parameter are {reference}",
    )


def _check_tensors(manifest: Manifest) -> None:
    names = [spec.name for spec in (*manifest.inputs, *manifest.outputs)]
    _demand(bool(manifest.inputs) and bool(manifest.outputs), "inputs or outputs are empty")
    _demand(
        len(set(names)) == len(names) and all(names), f"input and output names {names} are empty or repeated"
    )
    for spec in (*manifest.inputs, *manifest.outputs):
        _one_of(spec.datatype, DATATYPES, f"datatype of {spec.name!r}")
        _demand(
            all(length >= -1 for length in spec.shape),
            f"shape of {spec.name!r} is {spec.shape}, expected lengths or -1",
        )
    preprocessing = manifest.preprocessing
    _one_of(preprocessing.raw_datatype, RAW_DATATYPES, "preprocessing.raw_datatype")
    _demand(0.0 not in preprocessing.std, f"preprocessing.std {preprocessing.std} holds a zero")
    if preprocessing.white is not None:
        most = 255.0 if preprocessing.raw_datatype == "UINT8" else math.inf
        _demand(
            0.0 < preprocessing.white <= most,
            f"preprocessing.white is {preprocessing.white}, which no {preprocessing.raw_datatype} pixel is",
        )
    if preprocessing.resize is not None:
        _one_of(preprocessing.resize, RESIZE, "preprocessing.resize")
        shape = manifest.inputs[0].shape
        _demand(
            len(shape) == 4, f"preprocessing.resize is stated, and inputs of shape {shape} are no pictures"
        )


def _check_files(manifest: Manifest) -> None:
    for name, entry in manifest.files.items():
        check_file_name(name)
        _demand(name != "manifest.json", "files lists manifest.json, which cannot hold its own digest")
        _demand(name != "manifest.sig", "files lists manifest.sig, which is made from the manifest")
        _demand(entry.bytes >= 0, f"files[{name!r}].bytes is {entry.bytes}")
        _demand(_SHA256.match(entry.sha256) is not None, f"files[{name!r}].sha256 is {entry.sha256!r}")
    if manifest.files:
        needed = {"predict.onnx", "weights.cwt", "canaries.safetensors"}
        needed |= {explainer.file for explainer in manifest.explainers.values()}
        graphs = {name for name in manifest.files if GRAPH_FILES.match(name)}
        _demand(
            needed <= set(manifest.files), f"files lacks {', '.join(sorted(needed - set(manifest.files)))}"
        )
        _demand(
            graphs <= needed, f"files lists {', '.join(sorted(graphs - needed))}, which no explainer names"
        )
        packed = manifest.files["weights.cwt"].bytes
        _demand(
            packed == manifest.ledger.packed_bytes,
            f"weights.cwt holds {packed} bytes, the ledger's packed_bytes is {manifest.ledger.packed_bytes}",
        )


def _check_explainers(manifest: Manifest) -> None:
    for key, explainer in manifest.explainers.items():
        expected = f"explain.{explainer.method}.onnx"
        _demand(explainer.method == key, f"explainers[{key!r}].method is {explainer.method!r}")
        _demand(
            explainer.file == expected,
            f"explainers[{key!r}].file is {explainer.file!r}, expected {expected!r}",
        )
        check_file_name(explainer.file)
        _one_of(explainer.resolution, RESOLUTIONS, f"explainers[{key!r}].resolution")
        _one_of(explainer.sign, SIGNS, f"explainers[{key!r}].sign")
        for taken in explainer.inputs:
            _one_of(taken, EXPLAIN_INPUTS, f"explainers[{key!r}].inputs")
        _demand(explainer.steps >= 1, f"explainers[{key!r}].steps is {explainer.steps}, expected at least 1")
        _demand(
            len(explainer.map_shape) > 1 and explainer.map_shape[0] == -1,
            f"explainers[{key!r}].map_shape is {explainer.map_shape}, expected -1 for the batch and then lengths",
        )
        _one_of(explainer.verification.frozen_map, FROZEN_MAP, f"explainers[{key!r}].verification.frozen_map")
    for what, name in (
        ("default_explainer", manifest.default_explainer),
        ("fidelity.explainer", manifest.fidelity.explainer if manifest.fidelity else None),
        ("drift.explainer", manifest.drift.explainer if manifest.drift else None),
    ):
        if name is not None:
            _one_of(name, tuple(manifest.explainers), what)


def _check_quality(manifest: Manifest) -> None:
    limit = manifest.integrity
    _demand(
        (limit.occlusion_cosine_min is None) == (limit.occlusion_q999_max is None),
        "integrity holds one of occlusion_cosine_min and occlusion_q999_max, expected both or none",
    )
    _demand(
        limit.occlusion_cosine_min is None or "occlusion" in manifest.explainers,
        "integrity has a limit for occlusion maps, and there is no explainer 'occlusion'",
    )
    if manifest.fidelity is not None:
        for name in manifest.fidelity.similarity:
            _one_of(name, SCORE_NAMES, "key of fidelity.similarity")
    if manifest.drift is not None:
        for name, null in manifest.drift.scores.items():
            _one_of(name, DRIFT_NAMES, "key of drift.scores")
            _check_null(name, null)
        indices = [entry.index for entry in manifest.drift.classes]
        _demand(
            len(set(indices)) == len(indices) and all(index >= OTHER for index in indices),
            f"drift.classes have the indices {indices}, expected distinct ones from {OTHER}",
        )
        _demand(
            all(entry.samples >= 1 and entry.std >= 0 for entry in manifest.drift.classes),
            "drift.classes hold a class without samples or with a negative spread",
        )


def _check_null(name: str, null: NullDistribution) -> None:
    where = f"drift.scores[{name!r}]"
    _demand(
        len(null.quantiles) == len(QUANTILE_LEVELS),
        f"{where} has {len(null.quantiles)} quantiles, expected {len(QUANTILE_LEVELS)}",
    )
    _demand(
        all(low <= high for low, high in zip(null.quantiles, null.quantiles[1:], strict=False)),
        f"{where}.quantiles decrease",
    )
    _demand(
        len(null.autocorrelation) == LAGS, f"{where} has {len(null.autocorrelation)} lags, expected {LAGS}"
    )
    _demand(null.samples >= 0 and null.undefined >= 0 and null.std >= 0, f"{where} counts below zero")


def _one_of(value: str, known: tuple[str, ...], what: str) -> None:
    if value not in known:
        raise FieldValueError(
            f"{what} is {value!r} in manifest.json, expected one of {', '.join(known) or 'none'}."
        )


def _demand(holds: bool, sentence: str) -> None:
    if not holds:
        raise FieldValueError(f"manifest.json: {sentence}.")
