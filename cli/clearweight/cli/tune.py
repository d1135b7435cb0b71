"""``clearweight tune``: measure kernels on this machine and write a device profile for the exporter."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clearweight.cli.failure import stop

if TYPE_CHECKING:
    from clearweight.exporter.tuning import Choice


def tune(
    directory: Annotated[
        Path, typer.Argument(help="One artifact; its graphs are what is timed.", metavar="DIR")
    ],
    out: Annotated[Path, typer.Option(help="Profile to write.", metavar="FILE")] = Path("device.json"),
    threads: Annotated[int, typer.Option(help="ONNX Runtime threads.", min=1)] = 1,
    batch: Annotated[int, typer.Option(help="Rows per call.", min=1)] = 1,
    seconds: Annotated[float, typer.Option(help="How long each class of kernels is timed.", min=0.0)] = 2.0,
    json: Annotated[bool, typer.Option("--json", help="Print the profile.")] = False,
) -> None:
    """Time every kernel choice of an artifact's explain graph here, and keep what was measured as a profile.

    Run it on the device, with nothing else running. Name the file in the recipe (``device_profile: device.json``) and
    export again, anywhere: results stay the same, the graphs use what is fastest on that device.

    Example: clearweight tune models/digits/1 --out device.json
    """
    import onnx
    from rich.console import Console

    from clearweight.artifact import Artifact, find_artifacts
    from clearweight.exporter.device_profile import DeviceProfile
    from clearweight.exporter.graph.parameters import embed_parameters
    from clearweight.exporter.tuning import tune as measure
    from clearweight.service.latency import machine

    paths = find_artifacts(directory)
    if len(paths) != 1:
        stop(f"{directory} holds {len(paths)} artifacts, expected one to time: give DIR/NAME/VERSION.")
    artifact = Artifact.open(paths[0])
    structure = onnx.ModelProto.FromString(artifact.graph("predict.onnx"))
    model = embed_parameters(structure, dict(artifact.weights().tensors()))
    console = Console(stderr=True)
    with console.status("") as status:
        choices = measure(
            model,
            threads=threads,
            batch=batch,
            seconds=seconds,
            told=lambda what, done, total: status.update(f"{what} ({done} of {total})"),
        )
    families: dict[str, dict[str, dict[str, float]]] = {}
    for choice in choices:
        families.setdefault(choice.family, {})[choice.kind] = choice.relative
    profile = DeviceProfile.model_validate(
        {"machine": machine(), "threads": threads, "batch": batch, **families}
    )
    text = json_format.dumps(profile.model_dump(), indent=1, sort_keys=True) + "\n"
    partial = out.with_name(f"{out.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(out)
    if json:
        typer.echo(text, nl=False)
        return
    for line in lines(choices):
        typer.echo(line)
    typer.echo(f"profile  {out}")


def lines(choices: list["Choice"]) -> list[str]:
    """Say of each class which kernel is fastest, and by how much."""
    if not choices:
        return ["No kernel of this model's explain graph can be chosen; the profile is empty."]
    found = []
    for choice in choices:
        ranked = sorted(choice.seconds.items(), key=lambda entry: entry[1])
        times = ", ".join(f"{kernel} {1e3 * seconds:.3f} ms" for kernel, seconds in ranked)
        found.append(f"{choice.family:<12} {choice.kind:<18} {times}")
    return found
