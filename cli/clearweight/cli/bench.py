"""``clearweight bench``: what predict and explain cost on the machine it runs on."""

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from clearweight.artifact import Artifact
    from clearweight.service.latency import Latency


def bench(
    directory: Annotated[Path, typer.Argument(help="An artifact, or a folder of them.", metavar="DIR")],
    methods: Annotated[
        str | None, typer.Option(help="Explainers, separated by commas. [default: all of the artifact]")
    ] = None,
    batch: Annotated[int, typer.Option(help="Rows per call.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="ONNX Runtime threads.", min=1)] = 1,
    fixed_batch: Annotated[
        bool, typer.Option("--fixed-batch", help="Plan the sessions for this many rows alone.")
    ] = False,
    seconds: Annotated[float, typer.Option(help="How long each is called.", min=0.0)] = 3.0,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Measure latency, memory and start time of predict and of every explainer, each in a fresh process.

    Times are of whole calls in process, input checks included; the start counts from the start of Python to the first
    answer. Take them on the board that will run the model, with nothing else running.

    Example: clearweight bench models/digits/1 --batch 1 --json
    """
    from clearweight.artifact import Artifact, find_artifacts
    from clearweight.service.latency import PREDICT, Workload, machine, measure

    found = []
    for path in find_artifacts(directory):
        artifact = Artifact.open(path)
        for method in (PREDICT, *chosen(artifact, methods)):
            workload = Workload(str(path), method, batch, threads, seconds, fixed_batch=fixed_batch)
            found.append((artifact, measure(workload)))
    if json:
        typer.echo(json_format.dumps({"machine": machine(), "rows": [_row(*one) for one in found]}, indent=1))
        return
    typer.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    for line in table(found):
        typer.echo(line)


def chosen(artifact: "Artifact", methods: str | None) -> list[str]:
    """Return the explainers to measure.

    Raises
    ------
    typer.BadParameter
        The artifact has no such explainer.
    """
    known = list(artifact.manifest.explainers)
    if methods is None:
        return known
    asked = [name.strip() for name in methods.split(",") if name.strip()]
    for name in asked:
        if name not in known:
            raise typer.BadParameter(
                f"{artifact.manifest.name!r} has no explainer {name!r}. It has: {', '.join(known) or 'none'}."
            )
    return asked


def _row(artifact: "Artifact", latency: "Latency") -> dict[str, Any]:
    manifest = artifact.manifest
    named = {"model": manifest.name, "version": manifest.version, "model_sha256": manifest.manifest_sha256}
    return named | asdict(latency)


def table(found: list[tuple["Artifact", "Latency"]]) -> list[str]:
    """Lay out what was measured, one line for each graph; the last column is the cost beside predict's."""
    columns = (
        ("model", "<24"), ("graph", "<22"), ("p50 ms", ">9"), ("p99 ms", ">9"), ("start s", ">8"),
        ("resident MB", ">12"), ("peak MB", ">8"), ("over predict", ">13"),
    )  # fmt: skip
    lines = [" ".join(f"{title:{width}}" for title, width in columns)]
    beside = 0.0
    for artifact, latency in found:
        if latency.method == "predict":
            beside = latency.p50_ms
        name = f"{artifact.manifest.name}/{artifact.manifest.version}"
        lines.append(
            f"{name:<24} {latency.method:<22} {latency.p50_ms:>9.3f} {latency.p99_ms:>9.3f} {latency.start_s:>8.2f} "
            f"{latency.rss_mb:>12.1f} {latency.peak_mb:>8.1f} {latency.p50_ms / beside:>13.2f}"
        )
    return lines
