"""Search the strengths of a recipe's steps for the smallest network inside its budget.

Every trial trains the recipe's steps with other strengths and is measured on the validation split, which no step sees.
Optuna proposes: the tree-structured Parzen estimator on the logarithm of the bytes plus a penalty for what is missing
of the budget. Trials are kept in a journal, so an interrupted search goes on, and several processes share one.

References
----------
Bergstra, Bardenet, Bengio and Kegl, Algorithms for Hyper-Parameter Optimization, NeurIPS 2011 (the estimator).
"""

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import optuna
import torch
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from torch import nn

from clearweight.exporter.calibration import Explained, distances, explained
from clearweight.exporter.checkpoint import Checkpoints, checkpoint_key, section
from clearweight.exporter.compress import coded_tensors
from clearweight.exporter.compression import compress
from clearweight.exporter.emission import explainer, pack
from clearweight.exporter.errors import ExporterError, RecipeError, SearchError
from clearweight.exporter.graph import session, split_parameters, to_onnx
from clearweight.exporter.graph.plain import without_parametrizations
from clearweight.exporter.outcome import Outcome, Searched, Strengths, chosen
from clearweight.exporter.preparation import Prepared, prepare
from clearweight.exporter.recipe import Recipe, SearchSection
from clearweight.exporter.training import Progress, silent

# What missing the whole of one budget costs, in factors of e of the bytes.
PENALTY = 10.0
_POLL_SECONDS = 0.2
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


def distributions(section: SearchSection) -> dict[str, BaseDistribution]:
    """Return the ranges as Optuna takes them: whole numbers where both ends are."""
    return {
        name: IntDistribution(int(r.low), int(r.high), log=r.log)
        if isinstance(r.low, int) and isinstance(r.high, int)
        else FloatDistribution(float(r.low), float(r.high), log=r.log)
        for name, r in section.ranges.items()
    }


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


def run_trials(
    recipe: Recipe,
    journal: Path,
    checkpoints: Checkpoints,
    place: int = 0,
    progress: Progress = silent,
    on_end: Callable[[], None] = lambda: None,
) -> None:
    """Try strengths until the journal holds as many trials as the recipe asks for: one process's share of the work.

    Parameters
    ----------
    place : of this process among all; each draws proposals of its own
    on_end : called after every trial
    """
    search = _section(recipe)
    study = _study(journal, recipe.seed + place)
    trials = Trials(recipe, checkpoints, progress)
    while sum(t.state.is_finished() for t in study.get_trials(deepcopy=False)) < search.trials:
        trial = study.ask(distributions(search))
        try:
            outcome = trials.measure(trial.number, trial.params)
        except ExporterError as error:
            trial.set_user_attr("failed", str(error))
            study.tell(trial, state=TrialState.FAIL)
            continue
        for name, value in vars(outcome).items():
            trial.set_user_attr(name, value)
        missing = outcome.missing(recipe.fidelity, search)
        study.tell(trial, math.log(outcome.packed_bytes) + PENALTY * missing)
        on_end()


def search(
    recipe: Recipe,
    work: Path,
    progress: Progress = silent,
    on_trial: Callable[[Outcome, Sequence[Outcome]], None] = lambda _outcome, _all: None,
) -> Searched:
    """Try strengths in as many processes as the recipe asks for, or take up a search that was interrupted.

    Parameters
    ----------
    work : folder of the journal and of the checkpoints that all trials share
    on_trial : told of every outcome that was not known before, with all so far

    Raises
    ------
    RecipeError
        A range does not fit the recipe; found before anything is trained.
    SearchError
        No trial could be measured.
    """
    asked = _section(recipe)
    for end in ("low", "high"):
        with_strengths(recipe, {name: getattr(r, end) for name, r in asked.ranges.items()})
    work.mkdir(parents=True, exist_ok=True)
    # A search with more trials or processes goes on where a shorter one ended.
    same = asked.model_copy(update={"trials": 1, "processes": 1})
    key = checkpoint_key("search", section(recipe.model_copy(update={"search": same})))
    journal = work / f"search-{key}.log"
    told = outcomes(journal)

    def tell() -> None:
        for outcome in outcomes(journal)[len(told) :]:
            told.append(outcome)
            on_trial(outcome, told)

    if asked.processes == 1:
        run_trials(recipe, journal, Checkpoints(work), progress=progress, on_end=tell)
    else:
        _run_processes(recipe, journal, Checkpoints(work), progress, tell)
    tell()
    if not told:
        reasons = [t.user_attrs.get("failed", "") for t in _study(journal, 0).get_trials(deepcopy=False)]
        reason = next(filter(None, reasons), "The processes ended early.")
        raise SearchError(f"No trial could be measured. {reason}")
    return chosen(told, recipe.fidelity, asked)


def _run_processes(
    recipe: Recipe, journal: Path, checkpoints: Checkpoints, progress: Progress, tell: Callable[[], None]
) -> None:
    prepare(recipe, progress, checkpoints)  # the reference is trained once, before the processes part
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=run_trials, args=(recipe, journal, checkpoints, place), daemon=True)
        for place in range(_section(recipe).processes)
    ]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            time.sleep(_POLL_SECONDS)
            tell()
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def outcomes(journal: Path) -> list[Outcome]:
    """Read every measured trial of a journal, in the order of their ends."""
    if not journal.exists():
        return []
    done = _study(journal, 0).get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [_outcome(t) for t in sorted(done, key=lambda t: (t.datetime_complete, t.number))]


def _outcome(trial: FrozenTrial) -> Outcome:
    return Outcome(**{name: trial.user_attrs[name] for name in Outcome.__dataclass_fields__})


def _study(journal: Path, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(str(journal))),
        sampler=optuna.samplers.TPESampler(seed=seed),
        load_if_exists=True,
    )


def _section(recipe: Recipe) -> SearchSection:
    if recipe.search is None:
        raise RecipeError("The recipe has no section 'search'.")
    return recipe.search
