"""``clearweight verify``: whether every artifact is whole, and whether this machine computes what it says."""

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from clearweight.cli.failure import FAILED_CHECK
from clearweight.cli.repeat_verification import can_evaluate_float64, document, repeat

if TYPE_CHECKING:
    from clearweight.artifact import Artifact, Canary
    from clearweight.service.core.model import Model


def verify(
    directory: Annotated[Path, typer.Argument(help="An artifact, or a folder of them.", metavar="DIR")],
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array, one object per artifact.")
    ] = False,
    runtime_only: Annotated[
        bool,
        typer.Option(
            "--runtime-only", help="Leave out float64 evaluation, as a device without onnx installed does."
        ),
    ] = False,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", help="Demand a signature of this key (Ed25519, PEM) on every artifact."),
    ] = None,
) -> None:
    """Check files, decode the weights, run every graph on the canaries and compare with the stored answers.

    The verification of every explain graph is repeated on the canaries: with onnx installed against float64 evaluation
    and finite differences, else as far as ONNX Runtime alone can (completeness, and whether the maps follow input and
    class). Which of the two was done is said.

    A reference that lies beside an artifact is checked, too. Whether the explanations are near enough to the
    reference's is another question (fidelity): its verdict is shown and does not change the exit code.

    Exit code 0: every artifact is intact; 1: one is not, and the reason is named; 2: no artifact there.

    Example: clearweight verify models
    """
    from clearweight.artifact import find_artifacts

    signer = public_key.read_bytes() if public_key else None
    float64 = not runtime_only and can_evaluate_float64()
    findings = [
        examine(path, float64=float64, public_key=signer)
        for path in with_references(find_artifacts(directory))
    ]
    if json:
        typer.echo(json_format.dumps(findings, indent=1))
    else:
        for finding in findings:
            _show(finding)
    if any(finding["state"] != "passed" for finding in findings):
        raise typer.Exit(FAILED_CHECK)


def with_references(paths: list[Path]) -> list[Path]:
    """Add to each artifact the uncompressed reference beside it, where there is one."""
    from clearweight.artifact.file_name import REFERENCE_SUFFIX

    beside = [(path, path.with_name(path.name + REFERENCE_SUFFIX)) for path in paths]
    return [found for pair in beside for found in pair if found.is_dir()]


def examine(path: Path, *, float64: bool = True, public_key: bytes | None = None) -> dict[str, Any]:
    """Check one artifact; ``state`` is ``passed`` or ``failed``, ``reason`` says why.

    Parameters
    ----------
    float64 : bool
        Repeat the whole verification of the explain graphs, not only what ONNX Runtime alone can.
    public_key : bytes, optional
        Whose signature the artifact must carry.
    """
    from clearweight.artifact import Artifact, ArtifactError
    from clearweight.service import ServiceError
    from clearweight.service.core.model import Model
    from clearweight.service.core.observer import Observer

    finding: dict[str, Any] = {"path": str(path), "state": "failed", "reason": ""}
    try:
        artifact = Artifact.open(path, public_key=public_key)
        for _ in artifact.weights().tensors():
            pass  # each is decoded and checked
        model = Model(artifact, threads=1, observer=Observer())
        problems = graph_problems(model, artifact)
        repeated = {} if problems else repeat(artifact, model, float64=float64)
    except (ArtifactError, ServiceError) as error:
        return finding | {"reason": f"{type(error).__name__}: {error}"}
    problems += [entry.problem for entry in repeated.values() if entry.problem]
    if model.integrity.state != "passed":
        problems.insert(0, f"Integrity: {model.integrity.reason}")
    return finding | {
        "name": model.name,
        "version": model.version,
        "variant": artifact.manifest.variant,
        "state": "failed" if problems else "passed",
        "reason": " ".join(problems),
        "files": len(artifact.manifest.files) + 1,
        "graphs": ["predict", *artifact.manifest.explainers],
        "verification": document(repeated),
        "integrity": asdict(model.integrity),
        "fidelity": {"state": model.fidelity.state, "reason": model.fidelity.reason},
    }


def graph_problems(model: "Model", artifact: "Artifact") -> list[str]:
    """Run every explain graph on the canaries; the default one's map is compared by the integrity check itself."""
    canaries = artifact.canaries()
    return [
        problem
        for method in artifact.manifest.explainers
        for problem in _one_graph(model, artifact, canaries, method)
    ]


def _one_graph(model: "Model", artifact: "Artifact", canaries: "Canary", method: str) -> list[str]:
    feed = {model.input_names[0]: model.prepare(canaries.inputs)}
    found = model.explain(feed, canaries.target, method, stage="canary")
    stated = artifact.manifest.explainers[method]
    shape = (canaries.count, *(size for size in stated.map_shape if size != -1))
    if found.map.shape != shape:
        return [f"{stated.file} returns a map of shape {found.map.shape}, the manifest states {shape}."]
    if not np.isfinite(found.map).all():
        return [f"{stated.file} returns values that are not finite."]
    its_own = artifact.manifest.variant == "compressed"
    stored = canaries.logits_compressed if its_own else canaries.logits_reference
    error = float(np.abs(found.outputs[0] - stored).max())
    allowed = artifact.manifest.integrity.logits_atol
    if not error <= allowed:
        return [
            f"{stated.file}: logits differ by {error:.3g} from the stored ones, allowed is {allowed:.3g}."
        ]
    return []


def _show(finding: dict[str, Any]) -> None:
    if finding["state"] != "passed":
        typer.echo(f"FAILED  {finding['path']}: {finding['reason']}")
        return
    seen = finding["integrity"]
    cosine = "" if seen["map_cosine"] is None else f", map cosine {seen['map_cosine']:.6f}"
    typer.echo(
        f"intact  {finding['path']} ({finding['variant']}): {finding['files']} files, "
        f"{len(finding['graphs'])} graphs on {seen['canaries']} canaries, "
        f"logits within {seen['logits_error']:.2g}{cosine}; fidelity {finding['fidelity']['state']}"
    )
    for method, entry in finding["verification"].items():
        typer.echo(f"        {method:<20} {_repeated(entry)}")


def _repeated(entry: dict[str, Any]) -> str:
    """Write in one line what was repeated for a graph, next to what the manifest states."""
    stated, found = entry["stated"], entry["found"]
    missing = entry["completeness_error_max"]
    complete = "" if missing is None else f", completeness within {missing:.1g}"
    if found is None:
        follows = [what for what in ("input", "target") if entry[f"follows_{what}"]]
        return f"on ONNX Runtime alone: map follows {' and '.join(follows) or 'nothing'}{complete}"
    return (
        f"cosine to float64 {found['cosine_to_float64']:.6f} (stated {stated['cosine_to_float64']:.6f}), frozen map "
        f"{found['frozen_map']} (stated {stated['frozen_map']}){complete}"
    )
