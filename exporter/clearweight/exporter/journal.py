"""The journal of a search: which strengths were proposed, and what came of them.

It is a file of Optuna's, which proposes by the tree-structured Parzen estimator on the logarithm of the bytes plus a
penalty for what is missing of the budget. Several processes may write to it, and an interrupted search goes on from it.

References
----------
Bergstra, Bardenet, Bengio and Kegl, Algorithms for Hyper-Parameter Optimization, NeurIPS 2011 (the estimator).
"""

import math
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from clearweight.exporter.errors import RecipeError
from clearweight.exporter.outcome import Outcome
from clearweight.exporter.recipe import Recipe
from clearweight.exporter.sections import SearchSection

# What missing the whole of one budget costs, in factors of e of the bytes.
PENALTY = 10.0
# Between the seeds of two proposals in a row: more than there are writers.
_APART = 7919


class Journal:
    """One writer's view of the journal of a recipe's search.

    Parameters
    ----------
    path : the file, made where it is not there yet
    writer : of this process among all that write; each draws proposals of its own
    """

    def __init__(self, recipe: Recipe, path: Path, writer: int = 0) -> None:
        self._recipe, self._section = recipe, search_section(recipe)
        self._study = _study(path)
        # Other draws where a search goes on than where it began, or it would propose the same again.
        known = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = optuna.samplers.TPESampler(seed=recipe.seed + writer + _APART * known)

    def missing(self) -> int:
        """Return how many trials are still to be made."""
        done = sum(t.state.is_finished() for t in self._study.get_trials(deepcopy=False))
        return max(0, self._section.trials - done)

    def propose(self) -> Trial:
        """Return a trial with strengths to try."""
        return self._study.ask(distributions(self._section))

    def keep(self, trial: Trial, outcome: Outcome) -> None:
        """Write down what came of a trial."""
        for name, value in vars(outcome).items():
            trial.set_user_attr(name, value)
        missing = outcome.missing(self._recipe.fidelity, self._section)
        self._study.tell(trial, math.log(outcome.packed_bytes) + PENALTY * missing)

    def give_up(self, trial: Trial, reason: str) -> None:
        """Write down that a trial could not be measured."""
        trial.set_user_attr("failed", reason)
        self._study.tell(trial, state=TrialState.FAIL)


def search_section(recipe: Recipe) -> SearchSection:
    """Return the recipe's section ``search``.

    Raises
    ------
    RecipeError
        There is none.
    """
    if recipe.search is None:
        raise RecipeError("The recipe has no section 'search'.")
    return recipe.search


def distributions(section: SearchSection) -> dict[str, BaseDistribution]:
    """Return the ranges as Optuna takes them: whole numbers where both ends are."""
    return {
        name: IntDistribution(int(r.low), int(r.high), log=r.log)
        if isinstance(r.low, int) and isinstance(r.high, int)
        else FloatDistribution(float(r.low), float(r.high), log=r.log)
        for name, r in section.ranges.items()
    }


def outcomes(journal: Path) -> list[Outcome]:
    """Read every measured trial of a journal, in the order of their ends."""
    if not journal.exists():
        return []
    done = _study(journal).get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [_outcome(t) for t in sorted(done, key=lambda t: (t.datetime_complete, t.number))]


def _outcome(trial: FrozenTrial) -> Outcome:
    return Outcome(**{name: trial.user_attrs[name] for name in Outcome.__dataclass_fields__})


def _study(journal: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(str(journal))),
        load_if_exists=True,
    )


def reason_of_failure(journal: Path) -> str:
    """Return why the first trial that failed did; empty where none said so."""
    reasons = (t.user_attrs.get("failed", "") for t in _study(journal).get_trials(deepcopy=False))
    return next(filter(None, reasons), "")
