"""`pareto`: attribution similarity against bytes, for every method and point; the central figure.

Rows ``NET/METHOD/POINT``, POINT being the recipe's file name. ``wcam`` matches weighted collapsed maps of features
(Park et al., NeurIPS 2020) in the steps of ``matched``. ``criterion_*`` are one recipe, `criteria.yaml`, at one
entropy with the pruning criterion replaced, so that only the mask differs. ``nncodec`` is the standard's codec on the
reference of seed 0, without training, at several quantization points; it runs where `post_training` finds it. The
figure goes to build/benchmarks/pareto.svg: for each network the same points with the retrain floor, on the test images
and on corrupted ones, and the quantizer beside the rate-distortion bound.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Generator

from benchmarks.compression import mean_of, measure_recipe, rows_of
from benchmarks.pareto_figure import Bound, Panel, Point, figure
from benchmarks.post_training import EXPLAINED, NONWEIGHT_QP, PEER, QPS, Judge, mnist, nncodec
from benchmarks.row import MissingDataError, Row
from benchmarks.tasks import NETWORKS, SEEDS, WORK, Task, recipe_of
from benchmarks.yardstick import Figures, Yardstick, yardstick_of
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.compress.rate_quantizer import entropy_bits, quantize
from clearweight.exporter.evaluate.onnx_module import OnnxModule
from clearweight.exporter.importance import chosen, importance
from clearweight.exporter.preparation import Prepared, prepare
from clearweight.exporter.rate_distortion import water_filling
from clearweight.exporter.recipe import Recipe
from clearweight.exporter.training import silent

BENCH = "pareto"
# network -> method -> recipes
CURVES = {
    "lenet_300_100": {
        "deep_compression": ("deep_compression", "deep_compression_unmatched"),
        "rate_distortion": ("rate_distortion",),
        "matched": ("deep_compression_matched",),
        "attribution": ("attribution_25x", "attribution_40x", "attribution_70x"),
    },
    "lenet_5": {
        "deep_compression": ("deep_compression", "deep_compression_unmatched"),
        "wcam": ("wcam",),
        "matched": ("deep_compression_matched",),
        "attribution": ("attribution_80x",),
    },
}
# Where criteria are compared and the quantizer is held against its bound.
COMPARED = "lenet_300_100"
RIVAL = "nncodec"
CRITERIA = ("magnitude", "first_order", "gradient", "gradient_hessian", "fisher", "output_and_attribution")


def with_criterion(recipe: Recipe, criterion: str) -> Recipe:
    """Return the recipe with the criterion of its pruning step replaced."""
    steps = tuple(
        s.model_copy(update={"criterion": criterion}) if s.method == "prune" else s  # type: ignore[attr-defined]  # every method's config names itself
        for s in recipe.steps
    )
    return recipe.model_copy(update={"steps": steps})


def cases(task: Task) -> Iterator[tuple[str, Recipe]]:
    """Yield METHOD/POINT and recipe of all that is measured on the task's network."""
    for method, names in CURVES[task.network].items():
        for name in names:
            yield f"{method}/{name}", recipe_of(name, task)
    for criterion in CRITERIA if task.network == COMPARED else ():
        yield f"criterion_{criterion}/criteria", with_criterion(recipe_of("criteria", task), criterion)


def bound_of(prepared: Prepared) -> list[Bound]:
    """Return achieved entropy and distortion of the largest weight of the reference, with R(D) of the same distortion.

    The distortion is relative to that of dropping every weight. The bound takes the weights for Gaussian with one
    variance and lets the decoder know the curvature, which no real decoder does.
    """
    draws = Generator().manual_seed(0)
    sample = chosen(prepared.samples(prepared.splits.fit), 1000, draws)
    known = importance(prepared.reference, sample, frozenset({"fisher"}), draws)["fisher"]
    name = max(known, key=lambda n: known[n].numel())
    weight = prepared.reference.get_parameter(name).detach().double().numpy().ravel()
    curvature = known[name].double().numpy().ravel() / 2
    moments = np.full_like(weight, np.square(weight).mean())
    whole = float((curvature * np.square(weight)).sum())
    start = np.linspace(weight.min(), weight.max(), 31)
    found = []
    for octave in range(-42, -21, 3):
        book, indices = quantize(weight, curvature, start, 2.0**octave)
        distortion = float((curvature * np.square(weight - book[indices])).sum())
        least = water_filling(moments, curvature, max(distortion, 1e-12)).bits
        found.append(Bound(distortion / whole, entropy_bits(indices) / len(weight), least / len(weight)))
    return found


def measure(task: Task) -> dict[str, Figures]:
    """Measure every case of one network and seed, one after the other."""
    kept = Checkpoints(WORK / "checkpoints")
    yardstick = yardstick_of(task, kept)
    results: dict[str, Figures] = {}
    for case, recipe in cases(task):
        prepared = prepare(recipe, silent, kept)
        results[case], _ = measure_recipe(prepared, yardstick)
    return results


def rivals(task: Task, yardstick: Yardstick) -> Iterator[tuple[str, Figures]]:
    """Yield case and figures of NNCodec on the task's reference; nothing where it is not installed."""
    if not PEER.is_file():
        return
    subject = mnist(task.network, task.data, quick=task.quick)
    explained = 100 if task.quick else EXPLAINED[task.network]
    judge = Judge(subject, explained)
    for qp, size, model in nncodec(subject.model, QPS[task.network], NONWEIGHT_QP[task.network]):
        yield f"{RIVAL}/qp{qp}", judge.figures(model, size) | yardstick.on_corrupted(OnnxModule(model))


def points_of(network: str, figures: dict[str, Figures], ending: str = "") -> list[Point]:
    """Return one panel's marks: recipes only, bytes and cosine of the matched map, and whether accuracy was lost.

    Parameters
    ----------
    ending : "" for the test images, "_corrupted" for corrupted ones
    """
    return [
        Point(
            case.partition("/")[0],
            float(f["packed_bytes"] or math.nan),
            float(f[f"cosine_input_x_gradient{ending}"] or math.nan),
            float(f[f"cosine_occlusion{ending}"] or math.nan),
            lossless=float(f["error_delta_pt"] or 0.0) <= 0.2,
        )
        for case, f in figures.items()
        if case.partition("/")[0] in (*CURVES[network], RIVAL)
    ]


def panels_of(network: str, figures: dict[str, Figures], yardstick: Yardstick) -> Iterator[Panel]:
    """Yield the network's panels: on the test images, and on corrupted ones."""
    key = "cosine_input_x_gradient"
    yield Panel(f"{network}, test images", points_of(network, figures), yardstick.floor[key] or 0.0)
    if (worn := yardstick.corrupted) is not None:
        points = points_of(network, figures, "_corrupted")
        yield Panel(f"{network}, corrupted images", points, worn.floor[key] or 0.0)


def run(data: Path | None, *, quick: bool) -> Iterable[Row]:
    """Measure every case over the seeds and draw the figure of their means."""
    torch.set_num_threads(1)
    file = NETWORKS[COMPARED].file
    if data is None or not (data / file).is_file():
        raise MissingDataError(f"pareto needs {file} under --data, looked for it in {data}.")
    panels: list[Panel] = []
    for network in CURVES:
        seeds = SEEDS[:1] if quick else SEEDS
        task = Task(network, 0, data, quick)
        found = {seed: measure(replace(task, seed=seed)) for seed in seeds}
        means = {case: mean_of([figures[case] for figures in found.values()]) for case in found[0]}
        for case, mean in means.items():
            for seed, figures in found.items():
                yield from rows_of(f"{network}/{case}/seed{seed}", figures[case], BENCH)
            yield from rows_of(f"{network}/{case}/mean", mean, BENCH)
        yardstick = yardstick_of(task, Checkpoints(WORK / "checkpoints"))
        for case, theirs in rivals(task, yardstick):
            means[case] = theirs
            yield from rows_of(f"{network}/{case}", theirs, BENCH)
        panels += panels_of(network, means, yardstick)
    task = Task(COMPARED, 0, data, quick)
    bound = bound_of(prepare(recipe_of("deep_compression", task), silent, Checkpoints(WORK / "checkpoints")))
    target = WORK / ("pareto-quick.svg" if quick else "pareto.svg")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(figure(panels, bound), encoding="utf-8")
