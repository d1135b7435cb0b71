"""``clearweight inspect``: where every byte of an artifact went."""

import json as json_format
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from clearweight.artifact import Artifact, LedgerRow

STAGES = ("float32", "pruned", "shared", "packed")
PIPED_WIDTH = 160  # columns when the output is no terminal, so that names are not cut


def inspect(
    directory: Annotated[Path, typer.Argument(help="An artifact, or a folder of them.", metavar="DIR")],
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array, one object per artifact.")
    ] = False,
) -> None:
    """Print the ledger: per layer shape, density, bits per weight after each stage, and bytes.

    Every file is checked against the manifest first. Exit code 0: done; 1: an artifact fails a check; 2: no artifact
    there.

    Example: clearweight inspect models/digits/1
    """
    from rich.console import Console

    from clearweight.artifact import Artifact, ArtifactError, find_artifacts
    from clearweight.artifact.errors import NotAnArtifactError

    try:
        artifacts = [Artifact.open(path) for path in find_artifacts(directory)]
        for artifact in artifacts:
            artifact.weights()  # its heads must be the ledger's rows
    except NotAnArtifactError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except ArtifactError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if json:
        typer.echo(json_format.dumps([account(artifact) for artifact in artifacts], indent=1))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    for artifact in artifacts:
        _show(artifact, console)


def account(artifact: "Artifact") -> dict[str, Any]:
    """Gather the sizes of one artifact for machines.

    ``files`` counts every byte on disk; ``packed_bytes`` is the size of ``weights.cwt`` and the sum of the rows and
    ``overhead_bytes``; ``device_bytes`` is everything but the report.
    """
    manifest = artifact.manifest
    ledger = manifest.ledger
    return {
        "path": str(artifact.path),
        "name": manifest.name,
        "version": manifest.version,
        "variant": manifest.variant,
        "reference_bytes": ledger.reference_bytes,
        "packed_bytes": ledger.packed_bytes,
        "overhead_bytes": ledger.overhead_bytes,
        "device_bytes": artifact.device_bytes,
        "ratio": _ratio(ledger.reference_bytes, ledger.packed_bytes),
        "device_ratio": _ratio(ledger.reference_bytes, artifact.device_bytes),
        "files": {path.name: path.stat().st_size for path in sorted(artifact.path.iterdir())},
        "rows": [_row(row) for row in ledger.rows],
    }


def _row(row: "LedgerRow") -> dict[str, Any]:
    return {
        "name": row.name,
        "shape": list(row.shape),
        "parameters": row.parameters,
        "nonzero": row.nonzero,
        "density": _density(row),
        "layout": row.layout,
        "walk": row.walk,
        "bytes": row.bytes,
        "bits_per_weight": {stage.name: stage.bits_per_weight for stage in row.stages},
    }


def _density(row: "LedgerRow") -> float:
    elements = math.prod(row.shape)  # also of scales and zero points, which are no parameters
    return row.nonzero / elements if elements else 0.0


def _ratio(whole: int, part: int) -> float:
    return whole / part if part else 0.0


def _show(artifact: "Artifact", console: "Console") -> None:
    from rich.table import Table

    facts = account(artifact)
    console.print(
        f"[bold]{facts['name']}[/bold] version {facts['version']} ({facts['variant']}) in {facts['path']}"
    )
    ledger = Table("layer", "shape", title="bits per weight after each stage, bytes in weights.cwt")
    for column in ("density", *STAGES, "bytes", "share"):
        ledger.add_column(column, justify="right")
    ledger.add_column("layout, walk")
    for row in facts["rows"]:
        bits = [f"{row['bits_per_weight'][s]:.2f}" if s in row["bits_per_weight"] else "" for s in STAGES]
        share = f"{100 * _ratio(row['bytes'], facts['packed_bytes']):.1f} %"
        shape = "x".join(str(length) for length in row["shape"]) or "scalar"
        layout = f"{row['layout']}, {row['walk']}"
        ledger.add_row(
            row["name"], shape, f"{100 * row['density']:.1f} %", *bits, f"{row['bytes']:,}", share, layout
        )
    blank = [""] * (2 + len(STAGES))
    ledger.add_row("magic, end, checksum", *blank, f"{facts['overhead_bytes']:,}", "", "", end_section=True)
    ledger.add_row("weights.cwt", *blank, f"{facts['packed_bytes']:,}", "100.0 %", "")
    console.print(ledger)
    files = Table("file", title="files")
    files.add_column("bytes", justify="right")
    files.add_column("on a device", justify="right")
    for name, size in facts["files"].items():
        needed = name not in artifact.manifest.files or artifact.manifest.files[name].device
        files.add_row(name, f"{size:,}", f"{size:,}" if needed else "")
    files.add_section()
    files.add_row("total", f"{sum(facts['files'].values()):,}", f"{facts['device_bytes']:,}")
    console.print(files)
    console.print(
        f"reference {facts['reference_bytes']:,} B, packed {facts['packed_bytes']:,} B ({facts['ratio']:.1f}x), "
        f"device {facts['device_bytes']:,} B ({facts['device_ratio']:.1f}x)"
    )
