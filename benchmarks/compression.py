"""`compression`: what Deep Compression costs in bytes, accuracy and explanations, with and without matching.

Three seeds. Every row of a recipe comes from the artifact that `pipeline` wrote and from its modules; the controls
say what a figure means: an equally long dense training, a reference from another seed, a random network. Finished
training is kept under build/benchmarks, so an interrupted run goes on where it stopped. ``--networks`` asks for some.
"""

import copy
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from benchmarks.resident_memory import resident_per_session
from benchmarks.row import MissingDataError, Row
from benchmarks.tasks import NETWORKS, WORK, Task, recipe_of
from benchmarks.yardstick import Figures, Yardstick, yardstick_of
from clearweight.artifact import Artifact
from clearweight.exporter.checkpoint import Checkpoints, checkpoint_key, model_state, restore
from clearweight.exporter.compression import compress, objective_of, step_key, trainable_copy
from clearweight.exporter.evaluate import (
    Maps,
    compare_maps,
    compare_predictions,
    gap_closed,
    image_values,
    logits,
    maps_of,
    paired_difference,
)
from clearweight.exporter.evaluate.similarity import Values
from clearweight.exporter.graph import session
from clearweight.exporter.pipeline import finish
from clearweight.exporter.preparation import Prepared, new_model, prepare
from clearweight.exporter.training import FineTuning, fit, silent

BENCH = "compression"
# Opened at once to see what one keeps: enough that pages do not count.
SESSIONS = 20
UNITS = {"bytes": "bytes", "percent": "%", "pt": "pt", "seconds": "s", "undefined": "maps"}


@dataclass(frozen=True, eq=False)
class Measured:
    """What was found for one task.

    Attributes
    ----------
    figures : case -> metric -> value
    values : recipe -> metric -> its value for every image, (n,); what paired differences are taken of
    """

    figures: dict[str, Figures]
    values: dict[str, dict[str, Values]]


def timed(
    prepared: Prepared, finished: str, work: Callable[[Prepared], nn.Module]
) -> tuple[nn.Module, float | None]:
    """Run training work, or take up what an earlier run kept under ``finished``.

    Returns
    -------
    the model, and the seconds of the run that trained it; None where that run did not take its time
    """
    kept = prepared.checkpoints
    key = checkpoint_key("seconds", finished)
    if kept.load(finished) is None:
        start = time.perf_counter()
        model = work(prepared)
        kept.save(key, {"seconds": torch.tensor(time.perf_counter() - start)})
    else:
        model = work(prepared)
    known = kept.load(key)
    return model, None if known is None else float(known["seconds"])


def last_step_key(prepared: Prepared) -> str:
    """Return the checkpoint name of the compressed model."""
    return step_key(prepared, len(prepared.recipe.steps) - 1)


def dense_key(prepared: Prepared) -> str:
    """Return the checkpoint name of the dense control."""
    return checkpoint_key("dense control", last_step_key(prepared))


def dense_control(prepared: Prepared) -> nn.Module:
    """Train the reference on for as long as the recipe's steps do, under the same losses, without compression."""
    recipe = prepared.recipe
    tunings: list[FineTuning] = [s.fine_tune for s in recipe.steps if getattr(s, "fine_tune", None)]
    model = trainable_copy(prepared.reference)
    key = dense_key(prepared)
    if (known := prepared.checkpoints.load(key)) is not None:
        restore(model, known)
        return model
    objective = objective_of(recipe, prepared.reference)
    for number, tuning in enumerate(tunings):
        runtime = replace(prepared.runtime, seed=recipe.seed + 1000 * (number + 1))
        loss = partial(objective.loss, model)
        fit(model, prepared.samples(prepared.splits.fit), loss, tuning, runtime, what="dense control")
    prepared.checkpoints.save(key, model_state(model))
    return model


def predict_over_reference(reference: object, own: object, sample: np.ndarray) -> float:
    """Return the median ratio of run times of the two predict graphs, interleaved, batch 1, one thread."""
    sessions = [session(e.predict, threads=1) for e in (own, reference)]
    feeds = {sessions[0].get_inputs()[0].name: sample}
    ratios = []
    for _ in range(15):
        times = []
        for running in sessions:
            start = time.perf_counter()
            for _ in range(100):
                running.run(None, feeds)
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios)


def resident_over_reference(own: onnx.ModelProto, reference: onnx.ModelProto) -> float:
    """Return the ratio of what open sessions of the two predict graphs keep in memory, the runtime's part included."""
    held = []
    with tempfile.TemporaryDirectory() as folder:
        for number, model in enumerate((own, reference)):
            onnx.save(model, path := Path(folder) / f"{number}.onnx")
            held.append(resident_per_session(path, SESSIONS, 3))
    return held[0] / held[1]


def compared(prepared: Prepared, model: nn.Module, aim: Maps, own: Maps, retrain: Maps) -> Figures:
    """Return every row that needs only the two networks, ``own`` being the maps of ``model``."""
    images = prepared.inputs(prepared.test)
    answers = compare_predictions(
        logits(prepared.reference, images), logits(model, images), prepared.test.labels
    )
    figures = asdict(compare_maps(aim, own)) | asdict(answers)
    low, high = figures.pop("error_delta_interval_pt")
    figures |= {"error_delta_low_pt": low, "error_delta_high_pt": high}
    floor = asdict(compare_maps(aim, retrain))
    for name in ("input_x_gradient", "occlusion"):
        figures[f"gap_closed_{name}"] = gap_closed(figures[f"cosine_{name}"], floor[f"cosine_{name}"])
    return figures


def differences(matched: dict[str, Values], control: dict[str, Values]) -> Figures:
    """Return what matching moves: every row's mean difference to the control, with its interval over images."""
    figures: Figures = {}
    for metric, own in matched.items():
        both = np.isfinite(own) & np.isfinite(control[metric])
        delta = paired_difference(own[both], control[metric][both])
        figures |= {
            f"{metric}_minus_unmatched": delta.mean,
            f"{metric}_minus_unmatched_low": delta.low,
            f"{metric}_minus_unmatched_high": delta.high,
        }
    return figures


def measure_recipe(prepared: Prepared, yardstick: Yardstick) -> tuple[Figures, dict[str, Values]]:
    """Compress, write and measure what one recipe makes; every row, and the maps' rows for every image."""
    pixels, aim = yardstick.pixels, yardstick.aim
    model, seconds = timed(prepared, last_step_key(prepared), compress)
    with tempfile.TemporaryDirectory() as out:
        exported = finish(prepared, model, Path(out))
        artifact = Artifact.open(exported.path)
        book = exported.manifest.ledger
        plain = exported.compressed.plain
        own = maps_of(plain, pixels, aim.targets, yardstick.layer)
        figures = compared(prepared, plain, aim, own, yardstick.retrain) | yardstick.on_corrupted(plain)
        figures |= {
            "reference_bytes": book.reference_bytes,
            "packed_bytes": book.packed_bytes,
            "device_bytes": artifact.device_bytes,
            "ratio": book.reference_bytes / book.packed_bytes,
            "device_ratio": book.reference_bytes / artifact.device_bytes,
            "predict_over_reference": predict_over_reference(
                exported.reference, exported.compressed, pixels[:1].numpy()
            ),
            "resident_over_reference": resident_over_reference(
                exported.compressed.predict, exported.reference.predict
            ),
            "seconds": seconds,
        }
    return figures, image_values(aim, own)


def measure(task: Task) -> Measured:
    """Measure every recipe and control for one network and seed."""
    kept = Checkpoints(WORK / "checkpoints")
    results: dict[str, Figures] = {}
    values: dict[str, dict[str, Values]] = {}
    yardstick = yardstick_of(task, kept)
    recipes = NETWORKS[task.network].recipes
    layer, pixels, aim, retrain = yardstick.layer, yardstick.pixels, yardstick.aim, yardstick.retrain
    for name in recipes:
        prepared = prepare(recipe_of(name, task), silent, kept)
        results[name], values[name] = measure_recipe(prepared, yardstick)
    _, control, matched = recipes
    results[matched] |= differences(values[matched], values[control])
    dense, seconds = timed(prepared, dense_key(prepared), dense_control)
    own = maps_of(dense, pixels, aim.targets, layer)
    results["control_dense_finetune"] = compared(prepared, dense, aim, own, retrain) | {"seconds": seconds}
    results["control_retrain"] = compared(prepared, yardstick.other, aim, retrain, retrain)
    untrained = prepared.recipe.model.model_copy(update={"weights": None})
    blank = prepared.recipe.model_copy(update={"model": untrained})
    random = copy.deepcopy(new_model(blank, task.seed + 100)).eval()
    own = maps_of(random, pixels, aim.targets, layer)
    results["control_random"] = compared(prepared, random, aim, own, retrain)
    return Measured(results, values)


def _worker() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def unit(metric: str) -> str:
    """Return the unit that a metric's name ends in; shares and cosines have none."""
    return next((sign for ending, sign in UNITS.items() if metric.endswith(ending)), "1")


def rows_of(case: str, figures: Figures, bench: str = BENCH) -> Iterator[Row]:
    """Yield the rows of one case; a figure that does not exist for it is null with unit n/a."""
    for metric, value in figures.items():
        yield Row(bench, case, metric, value, "n/a" if value is None else unit(metric))


def mean_values(seeds: list[dict[str, Values]]) -> dict[str, Values]:
    """Return every image's mean over seeds: the images are the same for all of them, so they are what varies."""
    return {metric: np.mean([values[metric] for values in seeds], axis=0) for metric in seeds[0]}


def mean_of(cases: list[Figures]) -> Figures:
    """Return the mean over seeds of every metric."""
    return {
        metric: None if any(c[metric] is None for c in cases) else statistics.fmean(c[metric] for c in cases)
        for metric in cases[0]
    }


def run(data: Path | None, *, quick: bool, networks: Sequence[str] = tuple(NETWORKS)) -> Iterable[Row]:
    """Measure every network, recipe and control over the seeds; two processes of one thread each."""
    if unknown := [name for name in networks if name not in NETWORKS]:
        raise MissingDataError(
            f"compression knows no network {', '.join(unknown)}; it knows {', '.join(NETWORKS)}."
        )
    for file in dict.fromkeys(NETWORKS[name].file for name in networks):
        if data is None or not (data / file).is_file():
            raise MissingDataError(f"compression needs {file} under --data, looked for it in {data}.")
    tasks = [
        Task(network, seed, data, quick)
        for network in networks
        for seed in NETWORKS[network].seeds[: 1 if quick else None]
    ]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn, initializer=_worker) as pool:
        measured = dict(zip(tasks, pool.map(measure, tasks), strict=True))
    for network in networks:
        _, unmatched_name, matched_name = NETWORKS[network].recipes
        seeds = {task.seed: found for task, found in measured.items() if task.network == network}
        matched, control = (
            mean_values([found.values[name] for found in seeds.values()])
            for name in (matched_name, unmatched_name)
        )
        for case in seeds[0].figures:
            for seed, found in seeds.items():
                yield from rows_of(f"{network}/{case}/seed{seed}", found.figures[case])
            mean = mean_of([found.figures[case] for found in seeds.values()])
            if case == matched_name:
                mean |= differences(matched, control)
            yield from rows_of(f"{network}/{case}/mean", mean)
