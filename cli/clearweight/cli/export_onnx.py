"""``clearweight export MODEL.onnx``: compress a user's ONNX file from unlabelled inputs, without training."""

import json as json_format
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, get_args

import typer

from clearweight.cli.failure import FAILED_CHECK, stop
from clearweight.cli.sizes import size_lines

if TYPE_CHECKING:
    from clearweight.exporter.post_training import Budget
    from clearweight.exporter.post_training.artifact import Exported

NO_DATA = (
    "No --data: the statistics come from synthetic probes, which are not what the model will see. Expect a larger file "
    "at the same quality, and do not trust the fidelity figures; a hundred real inputs are enough."
)
SENT = "{count} inputs of {file} travel with the artifact as canaries; '--canaries synthetic' sends none."
CANARY_SOURCES = Literal["calibration", "synthetic"]
MOST_INPUTS = 2000


def export_file(
    model: Path,
    out: Path,
    data: Path | None,
    budget: "Budget",
    *,
    name: str | None,
    methods: str,
    coder: str,
    canaries: str,
    threads: int,
    overwrite: bool,
    json: bool,
) -> None:
    """Compress an ONNX file, print what came of it, and exit 1 where the budget could not be kept."""
    from rich.console import Console

    from clearweight.cli.explain import wanted
    from clearweight.cli.progress_bars import ProgressBars
    from clearweight.exporter.explain import EXPLAINERS
    from clearweight.exporter.graph.onnx_file import read_onnx
    from clearweight.exporter.own_model import prepare, read_samples
    from clearweight.exporter.post_training.artifact import CANARIES, Order, export_onnx

    if coder not in {"huffman", "range"}:
        stop(f"--coder {coder!r}: expected huffman or range.")
    if canaries not in get_args(CANARY_SOURCES):
        stop(f"--canaries {canaries!r}: expected {' or '.join(get_args(CANARY_SOURCES))}.")
    chosen = tuple(wanted(methods, list(EXPLAINERS)))
    console = Console(stderr=True)
    with TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        own = prepare(read_onnx(model, folder), folder)
        for change in own.changes:
            console.print(f"{model.name}: {change}", soft_wrap=True)
        inputs = None if data is None else read_samples(data, own.row, MOST_INPUTS)
        if data is None:
            console.print(f"Warning: {NO_DATA}", soft_wrap=True)
        elif canaries == "calibration":
            console.print(SENT.format(count=CANARIES, file=data.name), soft_wrap=True)
        order = Order(
            name or model.stem,
            budget=budget,
            methods=chosen,
            coder="huffman" if coder == "huffman" else "range",
            canary_source=canaries,
            threads=threads,
        )
        with ProgressBars(console) as progress:
            exported = export_onnx(own, inputs, order, out, progress, overwrite=overwrite)
    facts = summary(exported)
    typer.echo(json_format.dumps(facts, indent=1) if json else "\n".join(lines(facts)))
    if not exported.passed:
        typer.echo(
            f"No multiplier keeps a divergence of {budget.max_logit_kl:g} nats and a similarity of "
            f"{budget.min_attribution_similarity:g}; what is written is the nearest.",
            err=True,
        )
        raise typer.Exit(FAILED_CHECK)


def summary(exported: "Exported") -> dict[str, Any]:
    """Gather what an export came to, for people and machines alike."""
    from clearweight.artifact import Artifact

    manifest, found = exported.manifest, exported.found
    book = manifest.ledger
    device = Artifact.open(exported.path, verify=False).device_bytes
    return {
        "name": manifest.name,
        "version": manifest.version,
        "path": str(exported.path),
        "reference_path": str(exported.reference_path),
        "reference_bytes": book.reference_bytes,
        "packed_bytes": book.packed_bytes,
        "device_bytes": device,
        "ratio": book.reference_bytes / book.packed_bytes,
        "device_ratio": book.reference_bytes / device,
        "multiplier": found.multiplier,
        "logit_kl": found.logit_kl,
        "agreement": manifest.fidelity and manifest.fidelity.agreement,
        "explainer": manifest.default_explainer,
        "similarity": found.similarity,
        "fidelity": "passed" if exported.passed else "failed",
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """Write a summary for people."""
    return [
        f"{facts['name']} version {facts['version']}",
        *size_lines(facts),
        f"  divergence  {facts['logit_kl']:.4f} nats between the answers",
        f"  agreement   {100 * facts['agreement']:.2f} % of the predictions",
        f"  similarity  {facts['similarity']:.3f}  mean cosine of the {facts['explainer']} maps",
        f"  fidelity    {facts['fidelity']}; measured on inputs that compression did not see",
        f"  artifact    {facts['path']}",
        f"  reference   {facts['reference_path']}",
    ]
