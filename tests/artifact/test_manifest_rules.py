from dataclasses import replace

import pytest

from clearweight.artifact import (
    Canaries,
    Drift,
    FileEntry,
    NullDistribution,
    Preprocessing,
    TensorSpec,
)
from clearweight.artifact.errors import FieldValueError, FileNameError, UnsupportedVersionError
from clearweight.artifact.manifest_rules import SCORE_NAMES, check_manifest
from clearweight.artifact.score import SCORES
from tests.artifact.samples import manifest, network, packed_report

MADE = manifest(packed_report(network())[1])
EXPLAINER = MADE.explainers["gradient"]
ROW = MADE.ledger.rows[0]
NULL = NullDistribution(0.1, 0.05, (0.0,) * 16 + (1.0,) * 16, (0.0,) * 5, 0.0, 100, 0)
ENTRY = FileEntry(MADE.ledger.packed_bytes, "0" * 64, True)
FILES = dict.fromkeys(("predict.onnx", "explain.gradient.onnx", "weights.cwt", "canaries.safetensors"), ENTRY)


def row(**changes):
    return replace(MADE.ledger, rows=(replace(ROW, **changes), *MADE.ledger.rows[1:]))


def files(**changes):
    return {name: entry for name, entry in (FILES | changes).items() if entry is not None}


def null(**changes):
    return Drift("gradient", {"cosine": replace(NULL, **changes)})


def test_a_sound_manifest_passes():
    check_manifest(MADE)
    check_manifest(replace(MADE, files=FILES))
    check_manifest(replace(MADE, ledger=packed_report(network())[1].ledger({ROW.name: 0})))
    hidden = replace(EXPLAINER, method="occlusion", file="explain.occlusion.onnx")
    limit = replace(MADE.integrity, occlusion_cosine_min=0.9, occlusion_q999_max=0.1)
    check_manifest(replace(MADE, explainers={**MADE.explainers, "occlusion": hidden}, integrity=limit))
    check_manifest(replace(MADE, files={**FILES, "report.html": replace(ENTRY, device=False)}))
    check_manifest(replace(MADE, drift=Drift("gradient", {"cosine": NULL, "disagreement": NULL})))
    check_manifest(replace(MADE, variant="reference", fidelity=None, explainers={}, default_explainer=None))
    check_manifest(
        replace(
            MADE,
            preprocessing=Preprocessing(resize="crop", white=1.0),
            inputs=(TensorSpec("input", "FP32", (-1, 1, 8, 8)),),
        )
    )


@pytest.mark.parametrize(
    "change",
    [
        {"variant": "other"},
        {"inputs": ()},
        {"outputs": ()},
        {"outputs": (TensorSpec("input", "FP32", (-1,)),)},
        {"inputs": (TensorSpec("", "FP32", (-1,)),)},
        {"inputs": (TensorSpec("input", "float32", (-1,)),)},
        {"inputs": (TensorSpec("input", "FP32", (-2,)),)},
        {"preprocessing": Preprocessing(raw_datatype="BOOL")},
        {"preprocessing": Preprocessing(std=(1.0, 0.0))},
        {"preprocessing": Preprocessing(resize="shrink")},
        {"preprocessing": Preprocessing(white=0.0)},
        {"preprocessing": Preprocessing("UINT8", white=256.0)},
        {"preprocessing": Preprocessing(resize="crop"), "inputs": (TensorSpec("input", "FP32", (-1, 64)),)},
        {"ledger": row(parameters=1)},
        {"ledger": row(parameters=0)},  # then reference_bytes would have to fall as well
        {"integrity": replace(MADE.integrity, occlusion_cosine_min=0.9)},
        {"integrity": replace(MADE.integrity, occlusion_cosine_min=0.9, occlusion_q999_max=0.1)},
        {"ledger": row(nonzero=10**6)},
        {"ledger": row(nonzero=-1)},
        {"ledger": row(bytes=ROW.bytes + 1)},
        {"ledger": row(shape=(-6, -27))},
        {"ledger": row(name=MADE.ledger.rows[1].name)},
        {"ledger": row(stages=(replace(ROW.stages[0], bytes=-1),))},
        {"ledger": replace(MADE.ledger, packed_bytes=1)},
        {"ledger": replace(MADE.ledger, reference_bytes=1)},
        {"ledger": replace(MADE.ledger, overhead_bytes=-1)},
        {"explainers": {"other": EXPLAINER}},
        {"explainers": {"gradient": replace(EXPLAINER, file="explain.other.onnx")}},
        {"explainers": {"gradient": replace(EXPLAINER, resolution="pixel")}},
        {
            "explainers": {
                "gradient": replace(EXPLAINER, verification=replace(EXPLAINER.verification, frozen_map="no"))
            }
        },
        {"default_explainer": "gradcam"},
        {"fidelity": replace(MADE.fidelity, explainer="gradcam")},
        {"fidelity": replace(MADE.fidelity, similarity={"ssim": MADE.fidelity.similarity["cosine"]})},
        {"drift": Drift("gradcam", {})},
        {"drift": Drift("gradient", {"ssim": NULL})},
        {"drift": null(quantiles=(0.0,) * 31)},
        {"drift": null(quantiles=(1.0,) + (0.0,) * 31)},
        {"drift": null(autocorrelation=(0.0,) * 4)},
        {"drift": null(samples=-1)},
        {"canaries": Canaries("real", 3)},
        {"canaries": Canaries("file", -1)},
        {"files": files(**{"predict.onnx": None})},
        {"files": files(**{"explain.gradient.onnx": None})},
        {"files": files(**{"explain.gradcam.onnx": ENTRY})},
        {"files": files(**{"manifest.json": ENTRY})},
        {"files": files(**{"predict.onnx": replace(ENTRY, bytes=-1)})},
        {"files": files(**{"predict.onnx": replace(ENTRY, sha256="0" * 63)})},
        {"files": files(**{"predict.onnx": replace(ENTRY, sha256="0" * 63 + "A")})},
        {"files": files(**{"weights.cwt": replace(ENTRY, bytes=ENTRY.bytes + 1)})},
    ],
    ids=lambda change: str(next(iter(change))),
)
def test_each_rule_of_spec_4_3_is_enforced(change):
    with pytest.raises(FieldValueError):
        check_manifest(replace(MADE, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../x"},
        {"name": ""},
        {"name": "a" * 65},
        {"version": "1-reference"},
        {"version": "a/b"},
        {"files": {"../weights.cwt": ENTRY}},
        {"files": {"/etc/passwd": ENTRY}},
        {"files": {"notes.txt": ENTRY}},
    ],
    ids=str,
)
def test_names_of_other_forms_are_refused(change):
    with pytest.raises(FileNameError):
        check_manifest(replace(MADE, **change))


def test_another_format_or_version_is_refused():
    for change in ({"format": "onnx"}, {"format_version": 2}):
        with pytest.raises(UnsupportedVersionError):
            check_manifest(replace(MADE, **change))


def test_the_score_names_are_those_of_the_table():
    assert set(SCORE_NAMES) == set(SCORES)
