"""One trial of a search: strengths put into a recipe's steps, trained, and measured on the validation split."""

import statistics
import time
from dataclasses import replace

import numpy as np
import onnx
import torch
from torch import nn

from clearweight.exporter.calibration import Explained, distances, explained
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.compress import coded_tensors
from clearweight.exporter.compression import compress
from clearweight.exporter.emission import explainer, pack
from clearweight.exporter.errors import RecipeError
from clearweight.exporter.graph import session, split_parameters, to_onnx
from clearweight.exporter.graph.plain import without_parametrizations
from clearweight.exporter.outcome import Outcome, Strengths
from clearweight.exporter.preparation import Prepared, prepare
from clearweight.exporter.recipe import Recipe
from clearweight.exporter.training import Progress, silent

_REPEATS, _RUNS = 9, 30


def with_strengths(recipe: Recipe, strengths: Strengths) -> Recipe:
    """Return the recipe with these strengths in its steps.

    Raises
    ------
    RecipeError
        A range names no step or no key of it, or a value is none the step allows.
    """
    steps = [step.model_dump() for step in recipe.steps]
    for name, value in strengths.items():
        method, _, path = name.partition(".")
        place = next((i for i, step in enumerate(steps) if step["method"] == method), None)
        if place is None:
            raise RecipeError(
                f"search.ranges: {name!r} names no step; steps: {', '.join(s['method'] for s in steps)}."
            )
        key, _, pattern = path.partition(".")
        if key not in steps[place]:
            known = ", ".join(k for k in steps[place] if k != "method")
            raise RecipeError(f"search.ranges: {name!r} names no key of {method}; known keys: {known}.")
        if pattern:
            held = steps[place][key]
            if not isinstance(held, dict) or pattern not in held:
                raise RecipeError(f"search.ranges: {name!r}: {pattern!r} is not a pattern of {method}.{key}.")
            steps[place][key] = {**held, pattern: value}
        else:
            steps[place][key] = value
    try:
        made = tuple(type(old).model_validate(new) for old, new in zip(recipe.steps, steps, strict=True))
    except ValueError as error:
        raise RecipeError(f"search.ranges: {error}") from error
    return recipe.model_copy(update={"steps": made})


class Trials:
    """What one process needs to try strengths: data and reference, once; then one training per trial."""

    def __init__(self, recipe: Recipe, checkpoints: Checkpoints, progress: Progress = silent) -> None:
        self._prepared = prepare(recipe, progress, checkpoints)
        self._inputs = self._prepared.inputs(self._prepared.splits.validation).numpy()
        self._labels = self._prepared.splits.validation.labels
        self._model, self._aim = self._look(self._prepared.reference, None)

    def measure(self, number: int, strengths: Strengths) -> Outcome:
        """Compress with these strengths and measure."""
        recipe = self._prepared.recipe
        prepared: Prepared = replace(self._prepared, recipe=with_strengths(recipe, strengths))
        model = compress(prepared)
        exact, own = self._look(model, self._aim)
        names = split_parameters(exact)[1]
        packed, _ = pack([t for t in coded_tensors(model) if t.name in names], recipe.coder)
        cosine = 1.0 - distances(own.maps, self._aim.maps)["cosine"]
        right = [float((seen.logits.argmax(1) == self._labels).mean()) for seen in (self._aim, own)]
        wanted = recipe.search is not None and recipe.search.max_latency is not None
        return Outcome(
            number,
            dict(strengths),
            len(packed),
            right[0] - right[1],
            float(np.where(np.isnan(cosine), 0.0, cosine).mean()),
            self._latency(exact) if wanted else None,
        )

    def _look(self, model: nn.Module, aim: Explained | None) -> tuple[onnx.ModelProto, Explained]:
        recipe = self._prepared.recipe
        plain = without_parametrizations(model)
        exact = to_onnx(plain, torch.zeros(2, *recipe.model.input_shape))
        graph = explainer(exact, recipe, recipe.default_explainer)
        target = None if aim is None else aim.logits.argmax(1).astype(np.int64)
        return exact, explained(session(graph.model, threads=recipe.threads), self._inputs, target, graph)

    def _latency(self, own: onnx.ModelProto) -> float:
        """Return the median ratio of run times to the reference, interleaved, one input at a time."""
        running = [session(model, threads=self._prepared.recipe.threads) for model in (own, self._model)]
        feed = {running[0].get_inputs()[0].name: self._inputs[:1]}
        ratios = []
        for _ in range(_REPEATS):
            times = []
            for graph in running:
                start = time.perf_counter()
                for _ in range(_RUNS):
                    graph.run(None, feed)
                times.append(time.perf_counter() - start)
            ratios.append(times[0] / times[1])
        return statistics.median(ratios)
