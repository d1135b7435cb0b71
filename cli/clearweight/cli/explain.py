"""``clearweight explain``: explain graphs for a user's own ONNX file, without torch and without compression."""

import hashlib
import json as json_format
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearweight.cli.failure import FAILED_CHECK, stop

if TYPE_CHECKING:
    import onnx

    from clearweight.artifact import Explainer
    from clearweight.exporter.own_model import OwnModel

RECORD = "explain.json"
METHODS = "gradient,input_x_gradient"
ALL = "all"
SAMPLES = 4


def explain(
    model: Annotated[Path, typer.Argument(help="A classifier as an ONNX file.", metavar="MODEL.onnx")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not be there.", metavar="DIR")],
    methods: Annotated[
        str, typer.Option(help="Explainers, separated by commas; 'all' takes every one that works.")
    ] = METHODS,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Inputs to verify on, as the model takes them: npz or npy with one array (n, ...). "
            "[default: random]",
            metavar="SAMPLES.npz",
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Feature map for the methods that explain one. [default: the last]")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting; may be repeated.", metavar="METHOD.SETTING=VALUE"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what this verb wrote before.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print explain.json instead of a summary.")] = False,
) -> None:
    """Write explain graphs of an ONNX classifier: each returns the map and the model's own outputs in one run.

    Every graph is a self-contained ONNX file of standard operators, verified before anything is written: against
    float64 evaluation, against finite differences where it is a derivative, and against the outputs of the file
    itself. What its map means, and what it takes beside the model's input, stands in explain.json.

    Exit code 0: done; 1: a graph fails its verification; 2: the file or an option is wrong. Nothing is written in
    either case.

    Example: clearweight explain model.onnx --methods gradient,occlusion --out maps
    """
    from rich.console import Console

    from clearweight.artifact import write_folder
    from clearweight.cli.progress_bars import ProgressBars
    from clearweight.exporter.explain import EXPLAINERS, VerificationError
    from clearweight.exporter.graph.onnx_file import read_onnx
    from clearweight.exporter.own_model import explain_own, prepare, random_samples, read_samples

    chosen = wanted(methods, list(EXPLAINERS))
    settings = parsed(setting or [], chosen)
    require_free(out, overwrite=overwrite)
    if layer is not None and all(EXPLAINERS[method].resolution == "input" for method in chosen):
        stop(f"--layer {layer!r} is given, but {', '.join(chosen)} explain the input.")
    own = prepare(read_onnx(model))
    skipped: dict[str, str] = {}
    if methods == ALL:
        chosen, skipped = applicable(own, chosen, layer)
    samples = random_samples(own.row, SAMPLES) if data is None else read_samples(data, own.row, SAMPLES)
    try:
        with ProgressBars(Console(stderr=True)) as progress:
            made = explain_own(
                own,
                chosen,
                samples,
                layer=layer,
                settings=settings,
                on_graph=lambda done, total: progress("explain graphs", done, total, None),
            )
    except VerificationError as error:
        stop(f"{error} Nothing was written.", FAILED_CHECK)
    document = describe(model, own, made, skipped, samples="random" if data is None else data.name)
    contents = {entry.file: graph.SerializeToString(deterministic=True) for graph, entry in made.values()}
    text = json_format.dumps(document, indent=1)
    write_folder(out, {**contents, RECORD: f"{text}\n".encode()}, overwrite=overwrite)
    typer.echo(text if json else "\n".join(lines(out, document)))


def wanted(methods: str, known: Sequence[str]) -> list[str]:
    """Read the list of methods."""
    if methods == ALL:
        return list(known)
    chosen = [name.strip() for name in methods.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        stop(f"--methods: unknown explainer {(unknown or [methods])[0]!r}. Known: {', '.join(known)}, {ALL}.")
    return list(dict.fromkeys(chosen))


def parsed(given: Sequence[str], methods: Sequence[str]) -> dict[str, dict[str, float]]:
    """Read METHOD.SETTING=VALUE; whether there is such a setting is for the method to say."""
    found: dict[str, dict[str, float]] = {}
    for text in given:
        key, _, value = text.partition("=")
        method, _, name = key.partition(".")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not name or number != number or method not in methods:  # noqa: PLR0124  # NaN differs from itself
            stop(f"--set {text!r}: expected METHOD.SETTING=NUMBER with a method of {', '.join(methods)}.")
        found.setdefault(method, {})[name] = number
    return found


def require_free(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is there; with ``overwrite``, one that holds anything but what this verb writes."""
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        stop(f"{out} is already there: choose another folder, or --overwrite.")
    if out.is_symlink() or not out.is_dir():
        stop(f"{out} is no folder, so --overwrite does not replace it.")
    foreign = [
        path.name
        for path in sorted(out.iterdir())
        if path.name != RECORD and not (path.name.startswith("explain.") and path.suffix == ".onnx")
    ]
    if foreign:
        stop(
            f"{out} holds {foreign[0]!r}, which this verb did not write, so --overwrite does not replace it."
        )


def applicable(
    own: "OwnModel", methods: Sequence[str], layer: str | None
) -> tuple[list[str], dict[str, str]]:
    """Return the methods that work on a network, and why each other one does not."""
    from clearweight.exporter.errors import ExporterError
    from clearweight.exporter.explain import EXPLAINERS, build

    found, refused = [], {}
    for method in methods:
        try:
            build(own.classifier, method, layer=layer if EXPLAINERS[method].resolution == "feature" else None)
        except ExporterError as error:
            refused[method] = str(error)
        else:
            found.append(method)
    if not found:
        stop(f"No explainer works on this network: {next(iter(refused.values()))}")
    return found, refused


def describe(
    path: Path,
    own: "OwnModel",
    made: "dict[str, tuple[onnx.ModelProto, Explainer]]",
    skipped: dict[str, str],
    samples: str,
) -> dict[str, Any]:
    """Return the content of explain.json: which model, and per graph its conventions and its verification."""
    first = next(iter(made.values()))[0]
    return {
        "model": {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        "opset": next(entry.version for entry in first.opset_import if not entry.domain),
        "ir_version": first.ir_version,
        "input": own.classifier.graph.input[0].name,
        "input_shape": [-1, *own.row],
        "explained": own.classifier.graph.output[0].name,
        "output": own.source.graph.output[0].name,
        "changes": list(own.changes),
        "verified_on": samples,
        "explainers": {method: asdict(entry) for method, (_, entry) in made.items()},
        "not_applicable": skipped,
    }


def lines(out: Path, document: dict[str, Any]) -> list[str]:
    """Write a summary for people."""
    text = [f"{document['model']['file']}: {change}" for change in document["changes"]]
    for entry in document["explainers"].values():
        seen = entry["verification"]
        takes = f", takes {', '.join(entry['inputs'])}" if entry["inputs"] else ""
        text.append(
            f"  {out / entry['file']}  {entry['units']}{takes}; cosine to float64 {seen['cosine_to_float64']:.6f}, "
            f"frozen map {seen['frozen_map']}"
        )
    text += [f"  {method} does not apply: {why}" for method, why in document["not_applicable"].items()]
    return [*text, f"  {out / RECORD}  what each map means and what each graph takes"]
