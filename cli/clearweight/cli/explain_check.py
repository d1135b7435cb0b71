"""``clearweight explain-check``: whether an ONNX file can be explained, and every node that stands in the way."""

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearweight.cli.failure import DONE, FAILED_CHECK

if TYPE_CHECKING:
    from clearweight.exporter.explainability import Findings

SAMPLES = 2


def explain_check(
    model: Annotated[Path, typer.Argument(help="Any ONNX file.", metavar="MODEL.onnx")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Inputs to verify on, as the model takes them: npz or npy with one array (n, ...). "
            "[default: random]",
            metavar="SAMPLES.npz",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as a JSON object.")] = False,
) -> None:
    """Say whether an ONNX file can be explained, by which methods, and which nodes stand in the way.

    All nodes between input and logits that have no derivative rule are listed, not only the first. Where the gradient
    can be taken, it is verified: on ONNX Runtime against float64 evaluation, and against finite differences.

    Exit code 0: gradient and input x gradient work and verify; 1: they do not, and the reasons are named; 2: the file
    is no whole and valid ONNX model.

    Example: clearweight explain-check model.onnx
    """
    from rich.console import Console

    from clearweight.cli.progress_bars import ProgressBars
    from clearweight.exporter.explainability import examine
    from clearweight.exporter.graph.onnx_file import read_onnx
    from clearweight.exporter.own_model import random_samples, read_samples

    source = read_onnx(model)
    with ProgressBars(Console(stderr=True)) as progress:
        findings = examine(
            source,
            lambda own: (
                random_samples(own.row, SAMPLES) if data is None else read_samples(data, own.row, SAMPLES)
            ),
            lambda what, done, total: progress(what, done, total, None),
        )
    if json:
        typer.echo(json_format.dumps(document(model, findings), indent=1))
    else:
        typer.echo("\n".join(lines(model, findings)))
    raise typer.Exit(DONE if findings.explainable else FAILED_CHECK)


def document(path: Path, findings: "Findings") -> dict[str, Any]:
    """Return the findings for machines."""
    return {"path": str(path), "explainable": findings.explainable, **asdict(findings)}


def lines(path: Path, findings: "Findings") -> list[str]:
    """Write the findings for people."""
    about = findings.facts
    operators = ", ".join(f"{count} {name}" for name, count in about.operators.items())
    text = [
        f"{path}",
        f"  opset {about.opset}, IR version {about.ir_version}, {about.nodes} nodes, {about.parameters:,} parameters",
        f"  inputs       {'; '.join(about.inputs)}",
        f"  outputs      {'; '.join(about.outputs)}",
        f"  operators    {operators}",
        *(f"  note         {change}" for change in findings.changes),
    ]
    if findings.refused:
        text.append(f"  refused      {findings.refused}")
    text += [
        f"  in the way   {entry.operator} (node {entry.node!r}): {entry.reason}"
        for entry in findings.obstacles
    ]
    if findings.piecewise_linear is not None:
        linear = "piecewise linear: input x gradient and the linear bias add up to the logit"
        text.append(f"  network      {linear if findings.piecewise_linear else 'not piecewise linear'}")
    if findings.backward:
        text.append("  gradient by  " + ", ".join(f"{count} {op}" for op, count in findings.backward.items()))
    for method, found in findings.methods.items():
        steps = "1 pass" if found.steps == 1 else f"{found.steps} rows per input"
        where = f", at {found.layer!r}" if found.layer else ""
        text.append(
            f"  {method:<20} " + (f"works: {steps}{where}" if found.applicable else f"no: {found.reason}")
        )
    for method, seen in findings.verification.items():
        if isinstance(seen, str):
            text.append(f"  FAILED       {seen}")
        else:
            text.append(
                f"  verified     {method}: cosine to float64 {seen['cosine_to_float64']:.6f}, 99.9 % quantile of the "
                f"error {seen['q999_error_over_max']:.1g} of the maximum, frozen map {seen['frozen_map']}"
            )
    if findings.explainable:
        return [*text, "Can be explained."]
    if any(isinstance(seen, str) for seen in findings.verification.values()):
        return [*text, "The gradient can be taken, but it fails its verification."]
    working = [method for method, found in findings.methods.items() if found.applicable]
    rest = f" What works: {', '.join(working)}." if working else ""
    return [*text, f"Cannot be explained by its gradient.{rest}"]
