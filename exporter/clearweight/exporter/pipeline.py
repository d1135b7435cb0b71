"""The way of the data, offline: prepare, compress, emit, calibrate, write."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clearweight.artifact import (
    Manifest,
    write_artifact,
    write_folder,
)
from clearweight.artifact.errors import ArtifactExistsError
from clearweight.artifact.preprocessing import apply as preprocess
from clearweight.exporter.calibration import (
    distances,
)
from clearweight.exporter.canaries import canary, canary_inputs
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.compression import compress
from clearweight.exporter.description import describe, device_bytes, reference_manifest
from clearweight.exporter.emission import Emitted, emit
from clearweight.exporter.occluded import occlude, with_occlusion
from clearweight.exporter.outcome import Outcome
from clearweight.exporter.plain_forms import plain_forms
from clearweight.exporter.preparation import Prepared, prepare
from clearweight.exporter.quality import (
    explanations,
)
from clearweight.exporter.recipe import Recipe
from clearweight.exporter.rehearsal import rehearse
from clearweight.exporter.report import ReportData, render_report
from clearweight.exporter.side_by_side import run_both
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


def matched_explainers(recipe: Recipe) -> frozenset[str]:
    """Return the explainers whose maps the objective saw; the others are the honest witnesses."""
    terms = {term.term for term in recipe.objective.terms}  # type: ignore[attr-defined]  # every term names itself
    return frozenset({"input_x_gradient"} if "input_matching" in terms else set())


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
