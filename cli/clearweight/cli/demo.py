"""``clearweight demo``: the main job on real data, from training to live calls, in a minute or two."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from clearweight.cli.failure import FAILED_CHECK

if TYPE_CHECKING:
    from rich.table import Table

    from clearweight.cli.served import Server
    from clearweight.exporter.pipeline import Export
    from clearweight.exporter.recipe import Recipe

RECIPE = "digits.yaml"
COMPARISONS = 100
PATIENCE_S = 30.0


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the recipe and the models.", metavar="DIR")] = Path(
        "build/demo"
    ),
) -> None:
    """Train, compress, explain, serve and watch a small CNN on scikit-learn's digits.

    Exit code 0: done; 1: one of the three questions (fidelity, integrity, drift) or a call was answered badly.

    Example: clearweight demo
    """
    from rich.console import Console

    console = Console()
    start = time.perf_counter()
    recipe_file = write_recipe(out)
    console.print(f"The recipe is {recipe_file}: a CNN on scikit-learn's digits.")
    unmatched, matched = compress_twice(recipe_file, out)
    live = call(matched, out / "models")
    console.print(results(unmatched, matched, live))
    console.print(pictures(matched))
    for line in (*answers(live), *next_steps(matched, out)):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    console.print(f"Done in {time.perf_counter() - start:.0f} s.", highlight=False)
    if not live.sound:
        raise typer.Exit(FAILED_CHECK)


def write_recipe(out: Path) -> Path:
    """Put the recipe that comes with the command where its reader will look for it."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / RECIPE
    with as_file(files("clearweight.cli") / RECIPE) as source:
        shutil.copyfile(source, target)
    return target


def without_matching(recipe: "Recipe") -> "Recipe":
    """Return the recipe with the task loss alone, as compression is usually done."""
    task = tuple(term for term in recipe.objective.terms if getattr(term, "term", "") == "task")
    objective = recipe.objective.model_copy(update={"terms": task, "input_noise": 0.0})
    fidelity = recipe.fidelity.model_copy(update={"retrain_floor": False})
    return recipe.model_copy(update={"objective": objective, "fidelity": fidelity})


def compress_twice(recipe_file: Path, out: Path) -> tuple["Export", "Export"]:
    """Export without and with attribution matching; both begin at the same trained reference."""
    from rich.console import Console

    from clearweight.cli.progress_bars import ProgressBars
    from clearweight.exporter.checkpoint import Checkpoints
    from clearweight.exporter.pipeline import export
    from clearweight.exporter.recipe import load_recipe

    recipe = load_recipe(recipe_file)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as work:
        kept = Checkpoints(Path(work))  # the reference is trained once, for both
        console.print("Without matching: the task loss alone.")
        with ProgressBars(console) as bars:
            unmatched = export(
                without_matching(recipe), out / "unmatched", bars, overwrite=True, checkpoints=kept
            )
        console.print("With matching: the same steps while the maps stay in place; then the retrain floor.")
        with ProgressBars(console) as bars:
            matched = export(recipe, out / "models", bars, overwrite=True, checkpoints=kept)
    return unmatched, matched


@dataclass(frozen=True)
class Live:
    """What the running service answered.

    Attributes
    ----------
    health : the three questions, as ``GET /v2/models/NAME/drift`` answers them
    differences : call -> largest difference between REST and gRPC
    verified : what ``clearweight verify`` finds
    """

    health: dict[str, Any]
    differences: dict[str, float]
    verified: str

    @property
    def sound(self) -> bool:
        """Whether every question and every call was answered well."""
        states = (self.health["fidelity"]["state"], self.health["integrity"]["state"], self.verified)
        quiet = self.health["drift"]["state"] in ("collecting", "normal", "warning")
        return set(states) == {"passed"} and quiet and not any(self.differences.values())


def call(exported: "Export", models: Path) -> Live:
    """Start the service, call it both ways, send it clean traffic and ask it the three questions."""
    from clearweight.cli.served import rest, rpc, serving
    from clearweight.cli.verify import examine

    name = exported.manifest.name
    inputs = exported.prepared.test.inputs
    with serving(models, shadow="1", shadow_cpu_share="1", log_level="warning") as server:
        differences = {}
        for verb in ("infer", "explain"):
            ways = [way(server, name, verb, inputs[:4]) for way in (rest, rpc)]
            differences[verb] = max(float(np.abs(ways[0][k] - ways[1][k]).max()) for k in ways[1])
        health = watch(server, name, inputs)
    return Live(health, differences, examine(exported.path)["state"])


def watch(server: "Server", name: str, inputs: NDArray[Any]) -> Any:
    """Explain ``inputs`` one after the other until enough were compared with the reference and there are limits."""
    from clearweight.cli.served import get, rest

    deadline = time.monotonic() + PATIENCE_S
    sent = 0
    while True:
        health = get(f"{server.url}/v2/models/{name}/drift")
        drift = health["drift"]
        enough = drift["compared"] >= COMPARISONS and drift["state"] != "collecting"
        if enough or time.monotonic() > deadline:
            return health
        for _ in range(10):
            at = sent % len(inputs)
            rest(server, name, "explain", inputs[at : at + 1])
            sent += 1


def results(unmatched: "Export", matched: "Export", live: Live) -> "Table":
    """Tabulate what compression cost, without and with matching."""
    from rich.table import Table

    from clearweight.cli.export import percent, summary

    table = Table(title="a CNN on digits, compressed")
    for column in ("", "unmatched", "matched"):
        table.add_column(column, justify="left" if not column else "right")
    both = [summary(unmatched), summary(matched)]

    def row(title: str, *cells: str) -> None:
        table.add_row(title, *cells)

    for title, key in (
        ("reference", "reference_bytes"),
        ("packed", "packed_bytes"),
        ("device", "device_bytes"),
    ):
        row(f"{title} bytes", *(f"{facts[key]:,}" for facts in both))
    row("reference / packed", *(f"{facts['ratio']:.1f}x" for facts in both))
    row("reference / device", *(f"{facts['device_ratio']:.1f}x" for facts in both))
    row("accuracy before", *(percent(facts["accuracy_reference"]) for facts in both))
    row("accuracy after", *(percent(facts["accuracy"]) for facts in both))
    row(f"similarity of {both[1]['explainer']}", *(f"{facts['similarity']:.3f}" for facts in both))
    floor = both[1]["retrain_floor"]
    row("  of another training (floor)", *["n/a" if floor is None else f"{floor:.3f}"] * 2)
    row(
        f"fidelity (at least {both[1]['min_attribution_similarity']})", *(facts["fidelity"] for facts in both)
    )
    row("integrity", "", live.health["integrity"]["state"])
    row("drift", "", live.health["drift"]["state"])
    return table


def pictures(exported: "Export") -> "Table":
    """Draw the first probe with the map of the reference and of the compressed network."""
    from clearweight.artifact import Artifact
    from clearweight.cli.signed_map import image_text, map_text, side_by_side

    probes = Artifact.open(exported.path).canaries()
    return side_by_side(
        image=image_text(probes.inputs[0, 0].astype(np.float32)),
        reference=map_text(probes.maps_reference[0, 0].astype(np.float32)),
        compressed=map_text(probes.maps_compressed[0, 0].astype(np.float32)),
    )


def answers(live: Live) -> list[str]:
    """Say how the calls went."""
    drift = live.health["drift"]
    worst = max(live.differences.values())
    return [
        f"predict and explain over REST and gRPC: largest difference {worst:g}",
        f"integrity on this machine: {live.health['integrity']['state']}, verify: {live.verified}",
        f"drift after {drift['compared']} comparisons with the reference on clean inputs: {drift['state']}",
    ]


def next_steps(exported: "Export", out: Path) -> list[str]:
    """Return where the artifact lies and lines that call it as they stand."""
    name = exported.manifest.name
    image = exported.prepared.test.inputs[0].ravel().tolist()
    pixels = ",".join(map(str, image))
    body = f'{{"inputs":[{{"name":"input","datatype":"UINT8","shape":[1,1,8,8],"data":[{pixels}]}}]}}'
    models = out / "models"
    return [
        f"\nThe artifact is {exported.path}, its report {exported.path / 'report.html'}.",
        f"\nServe it:  clearweight serve {models}",
        "\nThen, from a shell:",
        f"  curl -s http://127.0.0.1:8080/v2/models/{name}/explain -d '{body}'",
        f"  curl -s http://127.0.0.1:8080/v2/models/{name}/drift",
        "\nOr in Python, without a server:",
        "  import numpy as np",
        "  from clearweight.service import Engine",
        f"  engine = Engine({str(models)!r})",
        f"  image = np.array([{pixels}], np.uint8).reshape(1, 1, 8, 8)",
        "  answer = engine.explain(image)",
        "  print(answer.logits.argmax(1), answer.map[0, 0].round(2))",
    ]
