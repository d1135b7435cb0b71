"""The way of the data, offline: prepare, compress, emit, calibrate, write."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clearweight.artifact import (
    Canaries,
    FileEntry,
    Manifest,
    TensorSpec,
    manifest_to_bytes,
    write_artifact,
    write_folder,
)
from clearweight.artifact.errors import ArtifactExistsError
from clearweight.artifact.preprocessing import apply as preprocess
from clearweight.artifact.score import SCORES
from clearweight.exporter.calibration import (
    NUDGE,
    Explained,
    distances,
    drift_null,
    explained,
    fidelity,
    integrity_limit,
    rounded_integrity_limit,
    session_without_optimisation,
)
from clearweight.exporter.canaries import canary, canary_inputs
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.compression import compress
from clearweight.exporter.emission import Emitted, emit
from clearweight.exporter.graph import session
from clearweight.exporter.occluded import Occluded, occlude, with_occlusion
from clearweight.exporter.outcome import Outcome
from clearweight.exporter.plain_forms import plain_forms
from clearweight.exporter.preparation import Prepared, prepare
from clearweight.exporter.quality import (
    Explanations,
    accuracy,
    explanations,
    predicted,
    quality,
    retrain_floor,
)
from clearweight.exporter.recipe import Recipe
from clearweight.exporter.rehearsal import rehearse
from clearweight.exporter.report import ReportData, render_report
from clearweight.exporter.stimulated import stimulated
from clearweight.exporter.training import Progress, silent

# How many inputs the export-time checks of the explain graphs look at.
VERIFIED_SAMPLES = 4


@dataclass(frozen=True, eq=False)
class Export:
    """What an export left behind.

    Attributes
    ----------
    path : the artifact; beside it lie the reference and the ONNX exchange forms
    reference, compressed : both networks in deployable form
    """

    path: Path
    reference_path: Path
    onnx_path: Path
    manifest: Manifest
    prepared: Prepared
    reference: Emitted
    compressed: Emitted


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


@dataclass(frozen=True, eq=False)
class Compared:
    """Both networks on the same inputs, for the class that the reference predicts.

    Attributes
    ----------
    reference, own : what their explain graphs answered; the logits of a quantized network are its predict graph's,
        whose integer kernels may round another way
    plain : the compressed network again, with the runtime's graph optimisation off
    rounded : a quantized network by further ways that an intact device may take
    """

    reference: Explained
    own: Explained
    plain: Explained
    rounded: tuple[Explained, ...] = ()


def run_both(recipe: Recipe, reference: Emitted, own: Emitted, inputs: NDArray[np.float32]) -> Compared:
    """Run the default explainer of both networks over ``inputs``."""
    method, threads = recipe.default_explainer, recipe.threads
    whole, graph = reference.graphs[method], own.graphs[method]
    aim = explained(session(whole.model, threads=threads), inputs, None, whole)
    target = aim.logits.argmax(1).astype(np.int64)
    running = session(graph.model, threads=threads)
    found = explained(running, inputs, target, graph)
    plain = explained(session_without_optimisation(graph.model, threads), inputs, target, graph)
    if not own.quantized:
        return Compared(aim, found, plain)
    nudged = explained(running, inputs * NUDGE, target, graph)
    return Compared(aim, replace(found, logits=predicted(own, inputs, threads)), plain, (found, nudged))


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


def finish(
    prepared: Prepared,
    model: nn.Module,
    out: Path,
    *,
    overwrite: bool = False,
    tried: Sequence[Outcome] = (),
) -> Export:
    """Emit, calibrate and write: everything after the last training step.

    Parameters
    ----------
    tried : the trials of the search that chose the recipe's strengths, for the report
    """
    recipe = prepared.recipe
    calibration = prepared.inputs(prepared.splits.calibration).numpy()
    samples, tell = calibration[:VERIFIED_SAMPLES], prepared.runtime.progress
    reference = emit(
        prepared.reference, recipe, samples, lambda k, n: tell("explain graphs, reference", k, n, None)
    )
    own = emit(
        model,
        recipe,
        samples,
        lambda k, n: tell("explain graphs", k, n, None),
        calibration=None if recipe.deploy == "float32" else calibration,
    )
    seen = run_both(recipe, reference, own, calibration)
    tell("measure", 1, 3, None)
    told = explanations(reference, own, prepared.inputs(prepared.test).numpy())
    tell("measure", 2, 3, None)
    hidden = occlude(recipe, reference, own, calibration, seen.reference.logits) if own.quantized else None
    manifest = describe(prepared, reference, own, seen, told, hidden)
    tell("measure", 3, 3, None)
    raw = canary_inputs(prepared)
    probes = preprocess(prepared.preprocessing, raw.inputs)
    tested = run_both(recipe, reference, own, probes)
    manifest = replace(manifest, canaries=replace(manifest.canaries, count=len(raw)))
    covered = occlude(recipe, reference, own, probes, tested.reference.logits) if own.quantized else None
    stored = canary(raw, tested.reference, tested.own)
    if covered is not None:
        stored = with_occlusion(stored, covered)
    contents = own.contents | {"canaries.safetensors": stored.to_bytes()}
    shown = ReportData(
        manifest=manifest,
        inputs=probes,
        labels=raw.labels,
        maps_reference=tested.reference.maps,
        maps_compressed=tested.own.maps,
        null_scores=distances(seen.own.maps, seen.reference.maps)["pooled_cosine"],
        comparison=told.comparison,
        reference_checks=told.reference_checks,
        own_checks=told.own_checks,
        tried=tried,
        units=stimulated(recipe, own, calibration),
        matched=matched_explainers(recipe),
    )
    needed = device_bytes(manifest, contents, len(render_report(shown).encode()))
    page = render_report(replace(shown, device_bytes=needed))
    # The artifact itself comes last: once it can be loaded, what belongs beside it is there. What an interrupted
    # export left beside it is replaced.
    reference_path = write_artifact(
        out,
        reference_manifest(manifest, reference, seen),
        reference.contents
        | {"canaries.safetensors": canary(raw, tested.reference, tested.reference).to_bytes()},
        overwrite=True,
    )
    tell("write", 1, 3, None)
    onnx_path = write_exchange(out, prepared, own, calibration)
    tell("write", 2, 3, None)
    path = write_artifact(
        out,
        manifest,
        contents | {"report.html": page.encode()},
        overwrite=overwrite,
    )
    tell("write", 3, 3, None)
    return Export(path, reference_path, onnx_path, manifest, prepared, reference, own)


def device_bytes(manifest: Manifest, contents: Mapping[str, bytes], page_bytes: int) -> int:
    """Return the bytes of all that a device needs: the files, and the manifest that lists them and the report.

    The page quotes this number, so it is asked before the page is final; ``page_bytes`` only counts by its digits.
    """
    unknown = "0" * 64
    files = {name: FileEntry(len(data), unknown, device=True) for name, data in contents.items()}
    files["report.html"] = FileEntry(page_bytes, unknown, device=False)
    return sum(map(len, contents.values())) + len(manifest_to_bytes(replace(manifest, files=files)))


def matched_explainers(recipe: Recipe) -> frozenset[str]:
    """Return the explainers whose maps the objective saw; the others are the honest witnesses."""
    terms = {term.term for term in recipe.objective.terms}  # type: ignore[attr-defined]  # every term names itself
    return frozenset({"input_x_gradient"} if "input_matching" in terms else set())


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


def write_exchange(out: Path, prepared: Prepared, own: Emitted, calibration: NDArray[np.float32]) -> Path:
    """Write the forms for people who only want ONNX, and what each of them costs on the test part."""
    recipe, test = prepared.recipe, prepared.test
    forms = plain_forms(
        own.predict if own.exact is None else own.exact,
        {} if own.exact is None else {f"model.{recipe.deploy}.onnx": own.predict},
        calibration,
        prepared.inputs(test).numpy(),
        test.labels,
        threads=recipe.threads,
    )
    return write_folder(out / recipe.name / f"{recipe.version}-onnx", forms, overwrite=True)


def export(
    recipe: Recipe,
    out: Path,
    progress: Progress = silent,
    *,
    overwrite: bool = False,
    checkpoints: Checkpoints = Checkpoints(),  # noqa: B008 - without a folder it holds no state
    tried: Sequence[Outcome] = (),
) -> Export:
    """Do what a recipe says and leave ``OUT/NAME/VERSION`` behind, or nothing that loads.

    Parameters
    ----------
    checkpoints : where finished work is kept, so that an interrupted export goes on after its last step
    tried : the trials of the search that chose the recipe's strengths, for the report

    Raises
    ------
    ExporterError
        Whatever of the recipe, the data, the model or a step is wrong (see `errors`).
    ArtifactError
        The version exists already and ``overwrite`` is False; found out before any work begins.
    """
    target = out / recipe.name / recipe.version
    if target.exists() and not overwrite:
        raise ArtifactExistsError(
            f"{target} is already there. Choose another version in the recipe, or ask to overwrite it."
        )
    rehearse(recipe)
    prepared = prepare(recipe, progress, checkpoints)
    return finish(prepared, compress(prepared), out, overwrite=overwrite, tried=tried)
