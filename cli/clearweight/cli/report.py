"""``clearweight report``: what compression did, in short, and where the long form lies."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearweight.cli.failure import DONE, FAILED_CHECK

if TYPE_CHECKING:
    from clearweight.artifact import Artifact


def report(
    directory: Annotated[Path, typer.Argument(help="An artifact, or a folder of them.", metavar="DIR")],
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array, one object per artifact.")
    ] = False,
) -> None:
    """Print bytes, accuracy and similarity of every artifact, and the path of its report.html.

    Exit code 0: done; 1: an artifact has no report; 2: no artifact there, or a damaged one.

    Example: clearweight report models
    """
    from clearweight.artifact import Artifact, find_artifacts

    facts = [digest(Artifact.open(path)) for path in find_artifacts(directory)]
    if json:
        typer.echo(json_format.dumps(facts, indent=1))
    else:
        for fact in facts:
            _show(fact)
    raise typer.Exit(DONE if all(fact["report"] for fact in facts) else FAILED_CHECK)


def digest(artifact: "Artifact") -> dict[str, Any]:
    """Return the main figures of a manifest; ``report`` is None where the artifact has no page."""
    from clearweight.artifact.file_name import REPORT

    manifest = artifact.manifest
    fidelity = manifest.fidelity
    return {
        "path": str(artifact.path),
        "report": str(artifact.path / REPORT) if REPORT in manifest.files else None,
        "name": manifest.name,
        "version": manifest.version,
        "reference_bytes": manifest.ledger.reference_bytes,
        "packed_bytes": manifest.ledger.packed_bytes,
        "device_bytes": artifact.device_bytes,
        "accuracy_reference": manifest.reference_quality.accuracy,
        "accuracy": manifest.compressed_quality.accuracy,
        "explainers": list(manifest.explainers),
        "default_explainer": manifest.default_explainer,
        "similarity": {name: s.mean for name, s in fidelity.similarity.items()} if fidelity else {},
        "fidelity": "not_measured" if fidelity is None else "passed" if fidelity.passed else "failed",
        "canaries": manifest.canaries.source,
        "manifest_sha256": manifest.manifest_sha256,
    }


def _show(fact: dict[str, Any]) -> None:
    similarity = ", ".join(f"{name} {value:.3f}" for name, value in fact["similarity"].items())
    typer.echo(f"{fact['name']} version {fact['version']}: fidelity {fact['fidelity']}")
    typer.echo(
        f"  bytes       reference {fact['reference_bytes']:,}, packed {fact['packed_bytes']:,}, "
        f"device {fact['device_bytes']:,}"
    )
    typer.echo(f"  similarity  {similarity or 'not measured'}")
    typer.echo(f"  report      {fact['report'] or 'none'}")
