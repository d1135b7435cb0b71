"""The model card: what an artifact's manifest says, in the words of a page."""

from typing import Any

from clearweight.artifact import Explainer, Fidelity, LedgerRow, Manifest, Quality, preprocessing

_TOP_ROWS = 64
"""Rows of the ledger a page shows; the rest is one sum."""


def card(manifest: Manifest, device_bytes: int, *, reference: bool) -> dict[str, Any]:
    """Return what a page tells about a model, ready for JSON.

    Sizes are bytes, accuracies and similarities shares. Nothing here stems from an input: canaries stay unread.

    Parameters
    ----------
    device_bytes : of all files that a device needs, the manifest included
    reference : whether the uncompressed model is loaded, so that its maps can be asked for
    """
    return {
        "name": manifest.name,
        "version": manifest.version,
        "variant": manifest.variant,
        "sha256": manifest.manifest_sha256,
        "labels": list(manifest.labels),
        "inputs": [
            {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
            for spec in manifest.inputs
        ],
        "raw": {
            "datatype": manifest.preprocessing.raw_datatype,
            "scale": manifest.preprocessing.scale,
            "white": preprocessing.white(manifest.preprocessing),
        },
        "bytes": {
            "reference": manifest.ledger.reference_bytes,
            "packed": manifest.ledger.packed_bytes,
            "device": device_bytes,
        },
        "ledger": _ledger(manifest.ledger.rows),
        "quality": {
            "reference": _quality(manifest.reference_quality),
            "compressed": _quality(manifest.compressed_quality),
        },
        "fidelity": _fidelity(manifest.fidelity),
        "explainers": [_explainer(explainer) for explainer in manifest.explainers.values()],
        "default_explainer": manifest.default_explainer,
        "reference_loaded": reference,
    }


def _ledger(rows: tuple[LedgerRow, ...]) -> list[dict[str, Any]]:
    largest = sorted(rows, key=lambda row: row.bytes, reverse=True)
    shown = [
        {
            "name": row.name,
            "shape": list(row.shape),
            "parameters": row.parameters,
            "nonzero": row.nonzero,
            "bytes": row.bytes,
            "bits_per_weight": 8.0 * row.bytes / row.parameters if row.parameters else None,
        }
        for row in largest[:_TOP_ROWS]
    ]
    rest = largest[_TOP_ROWS:]
    if rest:
        parameters = sum(row.parameters for row in rest)
        size = sum(row.bytes for row in rest)
        shown.append(
            {
                "name": f"{len(rest)} more",
                "shape": [],
                "parameters": parameters,
                "nonzero": sum(row.nonzero for row in rest),
                "bytes": size,
                "bits_per_weight": 8.0 * size / parameters if parameters else None,
            }
        )
    return shown


def _quality(quality: Quality) -> dict[str, float | None]:
    return {
        "accuracy": quality.accuracy,
        "deletion_auc": quality.deletion_auc,
        "spearman_to_own_occlusion": quality.spearman_to_own_occlusion,
    }


def _fidelity(fidelity: Fidelity | None) -> dict[str, Any] | None:
    if fidelity is None:
        return None
    return {
        "explainer": fidelity.explainer,
        "samples": fidelity.samples,
        "passed": fidelity.passed,
        "similarity": {name: summary.mean for name, summary in fidelity.similarity.items()},
        "budget": fidelity.min_attribution_similarity,
        "floor": fidelity.retrain_floor,
        "gap_closed": fidelity.gap_closed,
        "agreement": fidelity.agreement,
        "accuracy_drop": fidelity.accuracy_drop,
    }


def _explainer(explainer: Explainer) -> dict[str, Any]:
    return {
        "method": explainer.method,
        "sign": explainer.sign,
        "units": explainer.units,
        "baseline": explainer.baseline,
        "resolution": explainer.resolution,
        "layer": explainer.layer,
        "steps": explainer.steps,
        "gradient_ste": explainer.gradient_ste,
        "completeness": explainer.completeness,
    }
