"""Search the strengths of a recipe's steps for the smallest network inside its budget.

Every trial trains the recipe's steps with other strengths and is measured on the validation split, which no step sees.
Trials run one after another, in several processes on this machine, or over a Ray cluster.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from clearweight.exporter.checkpoint import Checkpoints, checkpoint_key, section
from clearweight.exporter.errors import ExporterError, SearchError
from clearweight.exporter.journal import Journal, outcomes, reason_of_failure, search_section
from clearweight.exporter.outcome import Outcome, Searched, chosen
from clearweight.exporter.preparation import prepare
from clearweight.exporter.recipe import Recipe
from clearweight.exporter.training import Progress, silent
from clearweight.exporter.trial import Trials, with_strengths

BACKENDS = ("processes", "ray")
_POLL_SECONDS = 0.2


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
    kept = Journal(recipe, journal, place)
    trials = Trials(recipe, checkpoints, progress)
    while kept.missing():
        trial = kept.propose()
        try:
            outcome = trials.measure(trial.number, trial.params)
        except ExporterError as error:
            kept.give_up(trial, str(error))
            continue
        kept.keep(trial, outcome)
        on_end()


def search(
    recipe: Recipe,
    work: Path,
    progress: Progress = silent,
    on_trial: Callable[[Outcome, Sequence[Outcome]], None] = lambda _outcome, _all: None,
    *,
    backend: str = BACKENDS[0],
) -> Searched:
    """Try strengths in as many processes as the recipe asks for, or take up a search that was interrupted.

    Parameters
    ----------
    work : folder of the journal and of the checkpoints that all trials share
    on_trial : told of every outcome that was not known before, with all so far
    backend : of `BACKENDS`: processes of this machine or of a Ray cluster; a search begun on one goes on on the other

    Raises
    ------
    RecipeError
        A range does not fit the recipe; found before anything is trained.
    SearchError
        No trial could be measured, or there is no such backend.
    """
    if backend not in BACKENDS:
        raise SearchError(f"No backend {backend!r} is known, expected {' or '.join(BACKENDS)}.")
    asked = search_section(recipe)
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

    if backend == "ray":
        _run_on_ray(recipe, journal, work, progress, tell)
    elif asked.processes == 1:
        run_trials(recipe, journal, Checkpoints(work), progress=progress, on_end=tell)
    else:
        _run_processes(recipe, journal, Checkpoints(work), progress, tell)
    tell()
    if not told:
        reason = reason_of_failure(journal) or "The processes ended early."
        raise SearchError(f"No trial could be measured. {reason}")
    return chosen(told, recipe.fidelity, asked)


def _run_processes(
    recipe: Recipe, journal: Path, checkpoints: Checkpoints, progress: Progress, tell: Callable[[], None]
) -> None:
    prepare(recipe, progress, checkpoints)  # the reference is trained once, before the processes part
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=run_trials, args=(recipe, journal, checkpoints, place), daemon=True)
        for place in range(search_section(recipe).processes)
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


def _run_on_ray(
    recipe: Recipe, journal: Path, work: Path, progress: Progress, tell: Callable[[], None]
) -> None:
    from clearweight.exporter.ray_trials import run_on_ray  # noqa: PLC0415 - Ray is an extra of its own

    prepare(recipe, progress, Checkpoints(work))  # the reference is trained once, before the trials part
    run_on_ray(recipe, journal, work, tell)
