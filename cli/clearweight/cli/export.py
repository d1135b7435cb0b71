"""``clearweight export``: from a recipe to an artifact."""

import json as json_format
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearweight.cli.failure import FAILED_CHECK, stop
from clearweight.cli.sizes import size_lines

if TYPE_CHECKING:
    from clearweight.artifact import Fidelity
    from clearweight.exporter.pipeline import Export
    from clearweight.exporter.sections import CanarySection

ONNX_PANEL = "An ONNX file"
# What leaves the house with the artifact, by the recipe's `canaries.source`.
TRAVELLERS = {
    "calibration": "{count} real inputs of the calibration split travel with the artifact as canaries; "
    "'canaries: {{source: synthetic}}' in the recipe sends none.",
    "file": "{count} inputs of {file} travel with the artifact as canaries.",
    "synthetic": "{count} synthetic inputs travel with the artifact as canaries; no real input does.",
}


def export(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="What to do, as YAML; or a classifier as an ONNX file.", metavar="RECIPE.yaml|MODEL.onnx"
        ),
    ],
    out: Annotated[Path, typer.Option(help="Model repository; DIR/NAME/VERSION is written.", metavar="DIR")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a version that is there.")] = False,
    work: Annotated[
        Path | None,
        typer.Option(
            help="Keep every finished step here, so that an interrupted export goes on from it.",
            metavar="DIR",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as a JSON object.")] = False,
    backend: Annotated[
        str | None,
        typer.Option(
            help="Where the trials of a recipe's search run: processes of this machine, or ray: a Ray cluster "
            "(RAY_ADDRESS; without it one is started here). [default: processes]",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="ONNX only: unlabelled inputs as the model takes them, npz or npy. [default: synthetic probes]",
            metavar="CALIBRATION.npz",
            rich_help_panel=ONNX_PANEL,
        ),
    ] = None,
    max_logit_kl: Annotated[
        float,
        typer.Option(help="ONNX only: nats by which the answers may diverge.", rich_help_panel=ONNX_PANEL),
    ] = 0.01,
    min_attribution_similarity: Annotated[
        float,
        typer.Option(
            help="ONNX only: mean cosine of input x gradient maps to keep.", rich_help_panel=ONNX_PANEL
        ),
    ] = 0.9,
    name: Annotated[
        str | None,
        typer.Option(help="ONNX only: of the model. [default: the file's]", rich_help_panel=ONNX_PANEL),
    ] = None,
    methods: Annotated[
        str, typer.Option(help="ONNX only: explainers, separated by commas.", rich_help_panel=ONNX_PANEL)
    ] = "gradient,input_x_gradient,gradcam",
    coder: Annotated[
        str, typer.Option(help="ONNX only: huffman or range.", rich_help_panel=ONNX_PANEL)
    ] = "huffman",
    canaries: Annotated[
        str,
        typer.Option(
            help="ONNX only: calibration (inputs of --data travel) or synthetic.", rich_help_panel=ONNX_PANEL
        ),
    ] = "calibration",
    threads: Annotated[
        int, typer.Option(help="ONNX only: threads of ONNX Runtime.", min=1, rich_help_panel=ONNX_PANEL)
    ] = 1,
) -> None:
    """Compress a model as a recipe says, or an ONNX file inside a budget, and write the artifact.

    An ONNX file is compressed without training and without labels: as far as its answers and its maps stay within
    --max-logit-kl and --min-attribution-similarity.

    Exit code 0: done; 1: the artifact is written but its explanations or its accuracy miss the budget; 2: the
    recipe, the data or the model is wrong, and nothing is written.

    Example: clearweight export examples/digits/recipe.yaml --out models

    Example: clearweight export model.onnx --data calibration.npz --out models
    """
    if recipe.suffix.lower() == ".onnx":
        from clearweight.cli.export_onnx import export_file
        from clearweight.exporter.post_training import Budget

        budget = Budget(max_logit_kl, min_attribution_similarity)
        export_file(
            recipe,
            out,
            data,
            budget,
            name=name,
            methods=methods,
            coder=coder,
            canaries=canaries,
            threads=threads,
            overwrite=overwrite,
            json=json,
        )
        return
    from rich.console import Console

    from clearweight.cli.progress_bars import ProgressBars
    from clearweight.exporter.checkpoint import Checkpoints
    from clearweight.exporter.pipeline import export as run
    from clearweight.exporter.recipe import load_recipe

    loaded = load_recipe(recipe)
    if backend is not None and loaded.search is None:
        stop(f"--backend {backend}: the recipe has no section 'search', so there are no trials to place.")
    console = Console(stderr=True)
    console.print(travellers(loaded.canaries), soft_wrap=True)
    inside = True
    with ExitStack() as held:
        if loaded.search is not None:
            from clearweight.cli.search_front import search_inside

            work = work or Path(held.enter_context(TemporaryDirectory(prefix="clearweight-")))
            loaded, found = search_inside(loaded, work, console, backend or "processes")
            inside = found.inside
        progress = held.enter_context(ProgressBars(console))
        exported = run(
            loaded,
            out,
            progress,
            overwrite=overwrite,
            checkpoints=Checkpoints(work),
            tried=() if loaded.search is None else found.outcomes,
        )
    facts = summary(exported)
    if json:
        typer.echo(json_format.dumps(facts, indent=1))
    else:
        for line in lines(facts):
            typer.echo(line)
    fidelity = exported.manifest.fidelity
    if fidelity is not None and not fidelity.passed:
        typer.echo(f"Fidelity failed: {shortfall(fidelity)} The artifact is written.", err=True)
    if not inside or (fidelity is not None and not fidelity.passed):
        raise typer.Exit(FAILED_CHECK)


def travellers(canaries: "CanarySection") -> str:
    """Say which inputs will leave the house with the artifact."""
    source = canaries.file
    file = source and (source.npz or source.idx or source.image_folder or source.callable)
    return TRAVELLERS[canaries.source].format(count=canaries.count, file=file)


def summary(exported: "Export") -> dict[str, Any]:
    """Gather what an export came to, for people and machines alike."""
    from clearweight.artifact import Artifact

    manifest = exported.manifest
    fidelity = manifest.fidelity
    book = manifest.ledger
    device = Artifact.open(exported.path, verify=False).device_bytes
    return {
        "name": manifest.name,
        "version": manifest.version,
        "path": str(exported.path),
        "reference_path": str(exported.reference_path),
        "onnx_path": str(exported.onnx_path),
        "reference_bytes": book.reference_bytes,
        "packed_bytes": book.packed_bytes,
        "device_bytes": device,
        "ratio": book.reference_bytes / book.packed_bytes,
        "device_ratio": book.reference_bytes / device,
        "accuracy_reference": manifest.reference_quality.accuracy,
        "accuracy": manifest.compressed_quality.accuracy,
        "explainer": manifest.default_explainer,
        "similarity": fidelity and fidelity.similarity["cosine"].mean,
        "min_attribution_similarity": fidelity and fidelity.min_attribution_similarity,
        "retrain_floor": fidelity and fidelity.retrain_floor,
        "fidelity": "not_measured" if fidelity is None else "passed" if fidelity.passed else "failed",
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """Write a summary for people."""
    floor = facts["retrain_floor"]
    beside = "" if floor is None else f", another training keeps {floor:.3f}"
    text = [
        f"{facts['name']} version {facts['version']}",
        *size_lines(facts),
        f"  accuracy    {percent(facts['accuracy_reference'])} -> {percent(facts['accuracy'])}",
    ]
    if facts["similarity"] is not None:
        text.append(
            f"  similarity  {facts['similarity']:.3f}  mean cosine of the {facts['explainer']} maps; at least "
            f"{facts['min_attribution_similarity']:.3f} wanted{beside}"
        )
    return [
        *text,
        f"  fidelity    {facts['fidelity']}",
        f"  artifact    {facts['path']}",
        f"  reference   {facts['reference_path']}",
        f"  plain ONNX  {facts['onnx_path']}",
    ]


def percent(share: float | None) -> str:
    """Write a share as a percentage; ``n/a`` where there is none."""
    return "n/a" if share is None else f"{100 * share:.2f} %"


def shortfall(fidelity: "Fidelity") -> str:
    """Say what a failed fidelity test missed; undefined maps count as similarity 0."""
    defined = (fidelity.samples - fidelity.undefined) / fidelity.samples
    level = fidelity.similarity["cosine"].mean * defined
    missed = []
    if level < fidelity.min_attribution_similarity:
        missed.append(
            f"the {fidelity.explainer} maps keep a mean cosine of {level:.3f}, "
            f"at least {fidelity.min_attribution_similarity:.3f} is wanted"
        )
    if fidelity.accuracy_drop is not None and fidelity.accuracy_drop > fidelity.max_accuracy_drop:
        missed.append(
            f"the accuracy falls by {100 * fidelity.accuracy_drop:.2f} points, "
            f"at most {100 * fidelity.max_accuracy_drop:.2f} is allowed"
        )
    return f"{'; '.join(missed)}."
