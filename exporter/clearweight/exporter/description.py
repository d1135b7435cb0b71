"""The manifest of what was made: what it is, how good it is, and what a device may expect of it."""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from clearweight.artifact import Canaries, FileEntry, Manifest, TensorSpec, manifest_to_bytes
from clearweight.artifact.score import SCORES
from clearweight.exporter.calibration import (
    distances,
    drift_null,
    fidelity,
    integrity_limit,
    rounded_integrity_limit,
)
from clearweight.exporter.emission import Emitted
from clearweight.exporter.graph import session
from clearweight.exporter.occluded import Occluded
from clearweight.exporter.preparation import Prepared
from clearweight.exporter.quality import Explanations, accuracy, quality, retrain_floor
from clearweight.exporter.recipe import Recipe
from clearweight.exporter.side_by_side import Compared


def environment(recipe: Recipe) -> dict[str, str]:
    """Return what a byte-for-byte repetition needs to know."""
    packages = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy")
    found = {package: version(package) for package in packages}
    return found | {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "seed": str(recipe.seed),
        "threads": str(recipe.threads),
        "device_profile": "committed" if recipe.device_profile is None else _digest(recipe.device_profile),
    }


def stated_bits(own: Emitted) -> dict[str, str]:
    """Return which weight takes how many bits, where they were chosen weight by weight."""
    return {"bits": ", ".join(f"{name} {bits}" for name, bits in own.bits.items())} if own.bits else {}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def specification(emitted: Emitted) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return inputs and outputs of the predict graph as the protocol names them; the batch is -1."""
    running = session(emitted.predict)

    def spec(value: Any) -> TensorSpec:
        return TensorSpec(value.name, "FP32", (-1, *(int(d) for d in value.shape[1:])))

    return tuple(map(spec, running.get_inputs())), tuple(map(spec, running.get_outputs()))


def describe(
    prepared: Prepared,
    reference: Emitted,
    own: Emitted,
    seen: Compared,
    told: Explanations,
    hidden: Occluded | None,
) -> Manifest:
    """Return the manifest of the compressed network.

    Parameters
    ----------
    seen : both networks on the calibration split
    told : both networks on the test part
    hidden : occlusion on the head of the calibration split, where the network is quantized
    """
    recipe, test = prepared.recipe, prepared.test
    method = recipe.default_explainer
    scores = distances(seen.own.maps, seen.reference.maps)
    floors = distances(seen.plain.maps, seen.own.maps)
    disagreement = (seen.own.logits.argmax(1) != seen.reference.logits.argmax(1)).astype(np.float64)
    inputs = prepared.inputs(test).numpy()
    right = {id(e): accuracy(e, inputs, test.labels, recipe.threads) for e in (reference, own)}
    declared, answered = specification(own)
    return Manifest(
        name=recipe.name,
        version=recipe.version,
        variant="compressed",
        inputs=declared,
        outputs=answered,
        labels=prepared.labels,
        preprocessing=prepared.preprocessing,
        ledger=own.ledger,
        reference_quality=quality(right[id(reference)], told.reference, told.reference_checks),
        compressed_quality=quality(right[id(own)], told.own, told.own_checks),
        explainers=own.records,
        default_explainer=method,
        fidelity=fidelity(
            method,
            scores,
            agreement=1.0 - float(disagreement.mean()),
            accuracy_drop=right[id(reference)] - right[id(own)],
            budget=recipe.fidelity,
            retrain_floor=retrain_floor(prepared, seen.reference),
            occlusion=None if hidden is None else SCORES["cosine"](hidden.own, hidden.reference),
        ),
        integrity=integrity_limit(seen.plain, seen.own)
        if hidden is None
        else rounded_integrity_limit(seen.own, (seen.plain, *seen.rounded), (hidden.own, hidden.nudged)),
        drift=drift_null(method, scores, floors, disagreement, seen.reference.logits.argmax(1)),
        canaries=Canaries(source=recipe.canaries.source, count=recipe.canaries.count),
        splits=prepared.digests,
        environment=environment(recipe) | stated_bits(own),
    )


def device_bytes(manifest: Manifest, contents: Mapping[str, bytes | Path], page_bytes: int) -> int:
    """Return the bytes of all that a device needs: the files, and the manifest that lists them and the report.

    The page quotes this number, so it is asked before the page is final; ``page_bytes`` only counts by its digits.
    """
    unknown = "0" * 64
    sizes = {
        name: len(data) if isinstance(data, bytes) else data.stat().st_size for name, data in contents.items()
    }
    files = {name: FileEntry(size, unknown, device=True) for name, size in sizes.items()}
    files["report.html"] = FileEntry(page_bytes, unknown, device=False)
    return sum(sizes.values()) + len(manifest_to_bytes(replace(manifest, files=files)))


def reference_manifest(manifest: Manifest, reference: Emitted, seen: Compared) -> Manifest:
    """Return the manifest of the uncompressed network that lies beside the artifact for shadow comparison."""
    return replace(
        manifest,
        variant="reference",
        ledger=reference.ledger,
        compressed_quality=manifest.reference_quality,
        explainers=reference.records,
        fidelity=None,
        drift=None,
        integrity=integrity_limit(seen.reference, seen.reference),
    )
